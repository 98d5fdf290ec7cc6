# POST /events against the same in Node.
use v5.36;

use Headgate::Bench::Peers qw(fastify why_no_fastify);
use Headgate::Bench::Publish qw(publish_row);

return publish_row(
    title    => 'POST /events: JWT HS256 (seen before), plan limit (lease, two windows), JSON checked, XADD acknowledged',
    against  => 'Fastify + @fastify/jwt + @fastify/rate-limit + ioredis doing the same with one window (peers/fastify)',
    at_least => 8,
    mode     => 'lease',
    process  => 'worker or of node',
    peer     => \&fastify,
    why_not  => \&why_no_fastify,
    warm_up_seconds => 5,    # of V8's compilers
);
