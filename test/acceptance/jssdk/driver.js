'use strict';
// A program as an app developer would write it on the JavaScript SDK. It prints the
// address where the person signs in, reads the authorization code from standard input,
// uses the SDK for everything it can do, and prints what came back as one line of JSON.
//
// The acceptance suite starts it with the facts in the environment variable SDK_DRIVER:
// {"login", "api", "clientId", "clientSecret", "redirectUri", "companies": [ids]}.

const readline = require('node:readline/promises');
const nodesFetch = globalThis.fetch;
const { setTimeout: pause } = require('node:timers/promises');
const sdk = require('@procore/js-sdk');

const facts = JSON.parse(process.env.SDK_DRIVER);

// The SDK rejects with {body, response} where the answer isn't 2xx.
const answer = ({ body, response }) => ({
  status: response.status,
  body,
  total: response.headers.get('Total'),
});

async function code() {
  console.log(sdk.authorize({ clientId: facts.clientId, uri: facts.redirectUri }, facts.login));
  const input = readline.createInterface({ input: process.stdin });
  try {
    for await (const line of input) return line;
  } finally {
    input.close();
  }
  throw new Error('no code came');
}

const clientWith = (token, options) => sdk.client(sdk.oauth(token), undefined, { apiHostname: facts.api, ...options });

// Everything that is done for one company, with the company set once for the client.
async function visit(token, company) {
  const client = clientWith(token, { defaultCompanyId: company });
  const name = `By the SDK ${company}`;
  const made = await client.post({ base: '/projects' }, { company_id: company, project: { name } });
  const id = made.body.id;
  const path = { base: '/projects', params: { id }, qs: { company_id: company } };
  const listed = await client.get({ base: '/projects', qs: { company_id: company, per_page: 1000 } });
  const shown = await client.get(path);
  const renamed = await client.patch(path, { company_id: company, project: { name: `${name}, renamed` } });
  const removed = await client.delete(path, {});
  const gone = await client.get(path).catch((refusal) => refusal);
  return {
    company,
    id,
    made: answer(made),
    listed: { ...answer(listed), body: listed.body.filter((project) => project.id === id) },
    shown: answer(shown),
    renamed: answer(renamed),
    removed: answer(removed),
    gone: answer(gone),
  };
}

// Milliseconds until a revoked token is refused.
async function refusedAfter(token) {
  const start = performance.now();
  while (performance.now() - start < 10_000) {
    const { response } = await clientWith(token).get({ base: '/me' }).catch((refusal) => refusal);
    if (response.status === 401) return performance.now() - start;
    await pause(20);
  }
  return null;
}

async function main() {
  const app = { id: facts.clientId, secret: facts.clientSecret, uri: facts.redirectUri };
  const first = await sdk.token({ ...app, code: await code() }, facts.login);
  const info = await sdk.info(first.access_token, facts.login);
  const client = clientWith(first.access_token);
  const me = answer(await client.get({ base: '/me' }));
  const companies = answer(await client.get({ base: '/companies' }));
  const missing = answer(await client.get({ base: '/projects', qs: { company_id: facts.companies[0] } }).catch((refusal) => refusal));
  const visits = [];
  for (const company of facts.companies) visits.push(await visit(first.access_token, company));

  // A company for one call only, over the client's own.
  const other = answer(
    await clientWith(first.access_token, { defaultCompanyId: facts.companies[0] })
      .get({ base: '/companies/{company}', params: { company: facts.companies[1] } }, { companyId: facts.companies[1] }),
  );

  const second = await sdk.refresh({ ...app, refresh: first.refresh_token }, facts.login);
  const meAgain = answer(await clientWith(second.access_token).get({ base: '/me' }));
  const credentials = { clientId: facts.clientId, clientSecret: facts.clientSecret };
  const revoked = await sdk.revoke({ ...credentials, token: second.access_token }, facts.login);
  const revokedAfter = await refusedAfter(second.access_token);
  const third = await sdk.refresh({ ...app, refresh: second.refresh_token }, facts.login);

  console.log(JSON.stringify({
    fetch: globalThis.fetch === nodesFetch ? 'node' : 'node-fetch',
    first, info, me, companies, missing, visits, other, second, meAgain, revoked, revokedAfter, third,
  }));
}

main().catch((failure) => {
  console.error(failure);
  process.exitCode = 1;
});
