// Endpoints of t/47-signatures.t, as they are written for other providers' webhooks: each verifies what comes with the
// library that those are verified with.
//
//   node signatures.mjs --port PORT --config FILE --out FILE
//
// FILE of --config is JSON: {path: {verify, secrets or jwks}}; it is read anew for each delivery. Writes one JSON line for
// each: {path, id, headers, body, verified: {secret: true | the error}} and answers 204.
import { createPublicKey, verify as verifySignature } from 'node:crypto';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';
import { verify as verifyGithub } from '@octokit/webhooks-methods';
import { shopifyApi, ApiVersion } from '@shopify/shopify-api';
import '@shopify/shopify-api/adapters/node';
import { Webhook } from 'standardwebhooks';
import Stripe from 'stripe';

const { values: options } = parseArgs({
  options: { port: { type: 'string' }, config: { type: 'string' }, out: { type: 'string' } },
});

const stripe = new Stripe('sk_test_none');
const shopify = (apiSecretKey) => shopifyApi({
  apiKey: 'none', apiSecretKey, apiVersion: ApiVersion.January25, hostName: 'localhost', isEmbeddedApp: false,
  logger: { level: -1, log: () => {} },
});

// No library for it is published for Node: the signature over id.timestamp.body, by the keys of the JWK set.
async function verifyV1a(body, headers, url) {
  const { keys } = await (await fetch(url)).json();
  const signed = Buffer.from(`${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`);
  return headers['webhook-signature'].split(' ').filter((one) => one.startsWith('v1a,')).some((one) => keys.some(
    (jwk) => verifySignature(null, signed, createPublicKey({ key: jwk, format: 'jwk' }), Buffer.from(one.slice(4), 'base64')),
  ));
}

const verifiers = {
  standard: (body, headers, secret) => Boolean(new Webhook(secret).verify(body, headers)),
  // For bodies that are no JSON: the library parses what it has verified.
  standard_text: (body, headers, secret) => new Webhook(secret).sign(
    headers['webhook-id'], new Date(Number(headers['webhook-timestamp']) * 1000), body,
  ) === headers['webhook-signature'],
  stripe: (body, headers, secret) => Boolean(stripe.webhooks.constructEvent(body, headers['stripe-signature'], secret)),
  github: (body, headers, secret) => verifyGithub(secret, body, headers['x-hub-signature-256']),
  async shopify(body, headers, secret) {
    const result = await shopify(secret).webhooks.validate({ rawBody: body, rawRequest: { headers }, rawResponse: {} });
    return result.valid || result;
  },
  v1a: verifyV1a,
};

async function verifyAll(path, body, headers) {
  const { verify, secrets } = JSON.parse(readFileSync(options.config, 'utf8'))[path];
  const verified = {};
  for (const secret of secrets) {
    try {
      verified[secret] = await verifiers[verify](body, headers, secret);
    } catch (error) {
      verified[secret] = error.message;
    }
  }
  return verified;
}

const server = createServer((request, response) => {
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', async () => {
    const body = Buffer.concat(chunks).toString('utf8');
    const verified = await verifyAll(request.url, body, request.headers).catch((error) => ({ failed: error.message }));
    const line = { path: request.url, id: request.headers['webhook-id'], headers: request.headers, body, verified };
    appendFileSync(options.out, `${JSON.stringify(line)}\n`);
    response.writeHead(204).end();
  });
});

writeFileSync(options.out, '');
server.listen(Number(options.port), '127.0.0.1');
process.on('SIGTERM', () => {
  server.close(() => process.exit(0));
  server.closeAllConnections();
});
