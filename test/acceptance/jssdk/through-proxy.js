'use strict';
// Loaded with --require, ahead of a program that knows nothing of proxies: from then on
// Node's own fetch goes through HTTPS_PROXY.
const { EnvHttpProxyAgent, setGlobalDispatcher } = require('undici');

setGlobalDispatcher(new EnvHttpProxyAgent());
