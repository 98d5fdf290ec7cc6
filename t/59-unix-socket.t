# The management API on a unix socket behind nginx: no port at all, the client's address as nginx says it, and the socket's file
# before, after and instead of a server.
use v5.36;
use Test::More;

use IO::Socket::UNIX;

use Headgate::Http;
use Headgate::Test;

my $t = Headgate::Test->new;
my $h = $t->sidecar;
my $socket = $t->path('api.sock');
my $toml = $t->read_file($h->config);
is $toml =~ s/^listen = "[^"]*"/listen = "unix:$socket"/m, 1, 'http.listen is a unix socket';
$t->write_file($h->config, $toml);

sub start ($name) {
    my $process = $t->start(name => $name, command => [$h->executable, 'serve', '--config', $h->config], log => $t->path("$name.log"), stop_seconds => 15);
    $t->wait_for("$name to listen", sub { $process->alive ? $process->log_text =~ /^.*listening address=unix:\Q$socket\E /m : $t->die_with_logs("$name ended") });
    return $process;
}
my $serve = start('serve');
ok -S $socket, 'there is the socket';
ok !eval { Headgate::Http->connect(port => $h->port) }, '... and no port';

my $front = $t->nginx(
    http => <<~"CONF",
        headgate_zone edge:16m;
        headgate_redis 127.0.0.1:@{[ $h->redis->port ]};
        headgate_api_key_pepper_file $h->{dir}/pepper;
        headgate_jwt_key_file $h->{dir}/token.key alg=HS256;
        include $h->{dir}/plans.conf;
        upstream api { server unix:$socket; keepalive 4; }
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        CONF
    server => <<~'CONF',
        location = /events {
            headgate_auth    api_key jwt;
            headgate_publish event;
        }
        location = /token { proxy_pass http://api; }
        location ~ ^/(health|live) { proxy_pass http://api; }
        location / {
            headgate_auth    api_key jwt;
            proxy_set_header X-Forwarded-For $arg_from;
            proxy_pass       http://api;
        }
        CONF
);
sub call ($method, $target, $key, $body = undef) {
    return $front->request(
        $method, $target, headers => ['X-API-Key' => $key, defined $body ? ('Content-Type' => 'application/json') : ()], defined $body ? (body => $body) : (),
    );
}
$t->wait_for('/health through nginx', sub { $front->get('/health')->status == 200 }, 30);
pass '/health is 200 through nginx';
my $key = $h->api_key;
my $made;
$t->wait_for('the edge to know the key', sub { ($made = call('POST', '/events', $key, '{"type":"order.created","source":"s","payload":{"n":1}}'))->status == 201 });
my $id = $made->json->{id};
$t->wait_for('the event in the inbox', sub { grep { $_->{id} eq $id } call('GET', '/inbox', $key)->json->@* });
is call('POST', "/inbox/$id/ack", $key, '{}')->status, 200, 'publish, inbox and acknowledgement';
is call('POST', '/api/webhooks', $key, '{"url":"https://example.com/","events":["order.*"]}')->status, 201, 'a webhook is made';
my $token = $front->request(
    'POST', '/token', headers => ['Content-Type' => 'application/x-www-form-urlencoded'], body => "username=api&password=$key",
)->json->{access_token};
is $front->request('GET', '/api/webhooks', headers => [Authorization => "Bearer $token"])->json->{data}{total}, 1, '... and a token shows it';
is $front->request('GET', '/api/webhooks')->status, 401, 'without a credential: 401';

# Who connects has no address: X-Forwarded-For is believed, as only nginx can reach the socket.
my $bound = $h->run_json('key', 'create', '--org', $h->org, '--name', 'bound', '--scopes', 'admin', '--allowed-ips', '10.1.2.3 127.0.0.1')->{api_key};
$t->wait_for('the edge to know the bound key', sub { call('GET', '/api/webhooks?from=10.1.2.3', $bound)->status == 200 });
is call('GET', '/api/webhooks?from=10.1.2.3', $bound)->status, 200, 'the address that nginx names is the client\'s';
is call('GET', '/api/webhooks?from=10.9.9.9', $bound)->status, 403, '... another is refused';
is call('GET', '/api/webhooks?from=nobody', $bound)->status, 403, '... and none at all';

# A second server leaves the first one's socket alone; what a killed one left is replaced.
my ($code, $said) = $h->run('serve');
is $code, 1, 'a second serve ends' or diag $said;
is $front->get('/live')->status, 200, '... and the first goes on';
$serve->crash;
ok -S $socket, 'a killed server leaves its socket';
is $front->get('/live')->status, 502, '... where nobody answers';
$serve = start('serve-again');
$t->wait_for('/live through nginx', sub { $front->get('/live')->status == 200 });
pass 'the next one takes its place';
$serve->stop;
is $serve->status, 0, 'it ends as it should' or diag $serve->log_text;

$t->done;
