# POST /events against lua-nginx-module made as cheap as it gets.
use v5.36;

use Headgate::Bench::Peers qw(lua_nginx);
use Headgate::Bench::Publish qw(publish_row);

return publish_row(
    title    => 'POST /events: JWT HS256 (seen before), plan limit (lease, two windows), JSON checked, XADD acknowledged',
    against  => 'nginx + lua-nginx-module doing it over pooled connections with one EVALSHA that stores the whole body (peers/lua)',
    at_least => 5,
    mode     => 'lease',
    peer     => sub (@world) { lua_nginx(@world, mode => 'script') },
);
