'use strict';
// A program that was written before there were regions: the JavaScript SDK with its
// default host, and no company anywhere but in the query. It prints what came back as one
// line of JSON.
//
// The acceptance suite starts it with the facts in the environment variable SDK_LEGACY:
// {"refresh", "clientId", "clientSecret", "redirectUri", "token", "company"}; where it
// also names "login" and "api", the program makes the required changes.

const sdk = require('@procore/js-sdk');

const facts = JSON.parse(process.env.SDK_LEGACY);

const answer = ({ body, response }) => ({ status: response.status, message: body.message, count: body.length });

async function main() {
  const options = facts.api ? { apiHostname: facts.api, defaultCompanyId: facts.company } : {};
  const client = sdk.client(sdk.oauth(facts.token), undefined, options);
  const info = await sdk.info(facts.token, ...(facts.login ? [facts.login] : []));
  const projects = await client.get({ base: '/projects', qs: { company_id: facts.company } }).catch((refusal) => refusal);
  const me = await client.get({ base: '/me' }).catch((refusal) => refusal);
  console.log(JSON.stringify({ info, projects: answer(projects), me: answer(me) }));
}

main().catch((failure) => {
  console.error(failure);
  process.exitCode = 1;
});
