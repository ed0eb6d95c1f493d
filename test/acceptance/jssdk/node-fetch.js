'use strict';
// Loaded with --require: takes Node's own fetch away, so that the SDK falls back to the
// node-fetch that it brings, as it does on the older Node versions that it supports.
for (const name of ['fetch', 'Headers', 'Request', 'Response']) delete globalThis[name];
