# POST /events with the limit decided in Redis for each request, against one INCR in lua-nginx-module.
use v5.36;

use Headgate::Bench::Peers qw(lua_nginx);
use Headgate::Bench::Publish qw(publish_row);

return publish_row(
    title    => 'POST /events: JWT HS256 (seen before), plan limit (exact, two windows), JSON checked, XADD acknowledged',
    against  => 'nginx + lua-nginx-module with one window: INCR, PEXPIRE and XADD in one write over pooled connections (peers/lua)',
    at_least => 3,
    mode     => 'exact',
    peer     => sub (@world) { lua_nginx(@world, mode => 'pipeline', windows => 1) },
);
