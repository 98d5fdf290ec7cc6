// POST /events as a good Node team would write it: Fastify, @fastify/jwt, @fastify/rate-limit with its
// store in Redis, ioredis. One process, as the edge is measured with one worker.
//
// usage: node server.mjs SETTINGS_FILE      {"port", "redis_port", "secret", "plans": {name: [[requests, seconds], …]}}
//
// Chosen in this peer's favour:
//   app.jwt.verify() with fast-jwt's cache of verified tokens, found by the token's own text and not by a hash of it;
//     request.jwtVerify() would decode the token again each time.
//   Commands of one turn of the event loop go out in one write (enableAutoPipelining).
//   One window of the plan, the first: a second would be a second script call. The limit decides before the body
//     is read, so a request makes two round trips.
//   Schemas compiled by Fastify for the event and for the answer; no log.
// The payload is what JSON.stringify makes of it: numbers beyond a double lose digits.
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import fastifyJwt from '@fastify/jwt'
import fastifyRateLimit from '@fastify/rate-limit'
import fastify from 'fastify'
import { Redis } from 'ioredis'

const settings = JSON.parse(readFileSync(process.argv[2], 'utf8'))
const streams = Array.from({ length: 8 }, (_, shard) => `headgate:{peer-${shard}}:events`)
const redis = new Redis({
  host: '127.0.0.1', port: settings.redis_port, enableAutoPipelining: true, connectTimeout: 1000, maxRetriesPerRequest: 1
})

const app = fastify({ logger: false, bodyLimit: 1024 * 1024 })
await app.register(fastifyJwt, {
  secret: settings.secret,
  verify: {
    algorithms: ['HS256'], allowedIss: 'headgate', requiredClaims: ['sub', 'org', 'exp'],
    cache: 10000, cacheTTL: 30000, cacheKeyBuilder: (token) => token
  }
})

const problem = (statusCode, message) => Object.assign(new Error(message), { statusCode })

function authenticate (request, reply, done) {
  const header = request.headers.authorization
  if (!header?.startsWith('Bearer ')) return done(problem(401, 'no token'))
  let claims
  try {
    claims = app.jwt.verify(header.slice(7))
  } catch {
    return done(problem(401, 'invalid token'))
  }
  if (!claims.scope?.split(' ').includes('events:write')) return done(problem(403, 'insufficient scope'))
  request.plan = settings.plans[claims.plan]?.[0]
  if (!request.plan) return done(problem(403, 'no plan'))
  request.user = claims
  done()
}

await app.register(fastifyRateLimit, {
  global: false, redis, nameSpace: 'limit:', hook: 'onRequest', skipOnError: false,
  keyGenerator: (request) => request.user.key,
  max: (request) => request.plan[0],
  timeWindow: (request) => request.plan[1] * 1000
})

// UUIDv7: randomUUID() keeps random bytes in stock.
function newId (nowMs) {
  const time = nowMs.toString(16).padStart(12, '0')
  return `${time.slice(0, 8)}-${time.slice(8)}-7${randomUUID().slice(15)}`
}

const schema = {
  body: {
    type: 'object',
    required: ['type', 'source', 'payload'],
    properties: {
      type: { type: 'string', pattern: '^(?!webhook\\.)[A-Za-z0-9_.:-]{1,128}$' },
      source: { type: 'string', minLength: 1, maxLength: 256, pattern: '^[^\\u0000-\\u001f\\u007f]*$' },
      payload: { type: 'object' }
    }
  },
  response: {
    201: { type: 'object', properties: { id: { type: 'string' }, status: { type: 'string' }, timestamp: { type: 'string' } } }
  }
}

app.decorateRequest('plan', null)
app.post('/events', { schema, onRequest: [authenticate], config: { rateLimit: {} } }, async (request, reply) => {
  const { body, user } = request
  const now = Date.now()
  const id = newId(now)
  await redis.xadd(
    streams[parseInt(id.at(-1), 16) % streams.length], '*', 'v', 1, 'id', id, 'org', user.org, 'key', user.key, 'type', body.type,
    'source', body.source, 'payload', JSON.stringify(body.payload), 'ord', '', 'tp', request.headers.traceparent ?? '',
    'via', 'api', 'at', now
  )
  reply.code(201)
  return { id, status: 'pending', timestamp: new Date(now).toISOString() }
})

for (const signal of ['SIGTERM', 'SIGINT']) {
  process.once(signal, async () => {
    await app.close()
    redis.disconnect()
  })
}
await app.listen({ host: '127.0.0.1', port: settings.port })
