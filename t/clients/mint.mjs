// Keys and tokens for t/27-token-interop.t: for every algorithm, a key as JWKS and as PEM (or as a raw secret) in the
// directory given, and tokens by every library that knows the algorithm; each again by another key of the same kid.
import { createSecretKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SignJWT, exportJWK } from 'jose';
import jsonwebtoken from 'jsonwebtoken';

const [directory] = process.argv.slice(2);
const CURVES = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' };
const ALGORITHMS = ['HS256', 'HS384', 'HS512', 'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA'];

function makeKey(algorithm) {
  if (algorithm.startsWith('HS')) {
    const text = randomBytes(64).toString('hex');
    const secret = createSecretKey(Buffer.from(text));
    return { privateKey: secret, publicKey: secret, file: `${text}\n` };
  }
  const pair = algorithm === 'EdDSA' ? generateKeyPairSync('ed25519')
    : CURVES[algorithm] ? generateKeyPairSync('ec', { namedCurve: CURVES[algorithm] })
      : generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...pair, file: pair.publicKey.export({ type: 'spki', format: 'pem' }) };
}

const claims = () => ({
  iss: 'https://mint.example', sub: 'someone', tenant: 'acme', scope: 'events:write inbox:ack',
  profile: { name: 'Zoë', groups: ['a', 'b'] }, aud: ['shop', 'other'],
});

const libraries = {
  jose: (key, algorithm, kid) => new SignJWT(claims())
    .setProtectedHeader({ alg: algorithm, typ: 'at+jwt', ...(kid && { kid }) }).setIssuedAt().setExpirationTime('10m').sign(key),
  jsonwebtoken: (key, algorithm, kid) => jsonwebtoken.sign(claims(), key, { algorithm, expiresIn: '10m', ...(kid && { keyid: kid }) }),
};

const cases = [];
for (const algorithm of ALGORITHMS) {
  const right = makeKey(algorithm);
  const wrong = makeKey(algorithm);
  const kid = `key of ${algorithm}`;
  const jwk = { ...(await exportJWK(right.publicKey)), kid, alg: algorithm, use: 'sig' };
  writeFileSync(join(directory, `${algorithm}.json`), JSON.stringify({ keys: [jwk] }), { mode: 0o600 });
  writeFileSync(join(directory, `${algorithm}.pem`), right.file, { mode: 0o600 });
  for (const [library, sign] of Object.entries(libraries)) {
    if (library === 'jsonwebtoken' && algorithm === 'EdDSA') continue; // it has none
    for (const [form, id] of [['jwks', kid], ['pem', undefined]]) {
      cases.push({
        library, algorithm, form,
        token: await sign(right.privateKey, algorithm, id),
        forged: await sign(wrong.privateKey, algorithm, id),
      });
    }
  }
}
console.log(JSON.stringify(cases));
