# POST /events against the same in lua-nginx-module, as one usually writes it.
use v5.36;

use Headgate::Bench::Peers qw(lua_nginx);
use Headgate::Bench::Publish qw(publish_row);

return publish_row(
    title    => 'POST /events: JWT HS256 (seen before), plan limit (lease, two windows), JSON checked, XADD acknowledged',
    against  => 'nginx + lua-nginx-module doing the same over pooled connections: the limits in one pipeline, then XADD (peers/lua)',
    at_least => 5,
    mode     => 'lease',
    peer     => sub (@world) { lua_nginx(@world, mode => 'plain') },
);
