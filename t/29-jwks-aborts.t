# Clients that go away around a fetch of keys, with the sanitized module: while they wait for it, while they carry it,
# and with their request long on its way upstream while the fetch goes on behind it; over HTTP/1.1 and HTTP/2. And
# workers that quit, or die, in the middle of one.
use v5.36;
use Test::More;

use Headgate::Edge;
use Headgate::KeyServer;
use Headgate::Keys;
use Headgate::Test;

my $t    = Headgate::Test->new;
my $keys = Headgate::KeyServer->start($t);
my $key  = Headgate::Keys->make($t, 'P-256');
# (That build is for Debian's nginx.)
my $asan = !$ENV{HEADGATE_NGINX} && -e $t->root . '/build/asan/ngx_http_headgate_module.so' || $ENV{HEADGATE_ASAN_MODULE};
diag 'without AddressSanitizer: build/asan is not there' if !$asan;
my $source = sub ($name) { "headgate_auth jwt; headgate_jwt_key_request /jwks/$name;" };
my $edge = Headgate::Edge->start(
    $t, asan => $asan ? 1 : 0, locations => <<~"CONF",
        location /jwks/ { internal; proxy_pass http://127.0.0.1:@{[ $keys->port ]}; proxy_read_timeout 30s; }
        location = /wait  { @{[ $source->('wait') ]} empty_gif; }
        location = /h2    { @{[ $source->('h2') ]} empty_gif; }
        location = /quit  { @{[ $source->('quit') ]} empty_gif; }
        location = /killed { @{[ $source->('killed') ]} empty_gif; }
        location = /proxied { @{[ $source->('proxied') ]} headgate_jwt_key_cache 1s; proxy_pass http://127.0.0.1:@{[ $keys->port ]}/application; }
        CONF
);
my $nginx = $edge->nginx;
my $jwks  = Headgate::Keys::jwks($key->jwk);
my $token = $key->token('ES256');
my @bearer = (headers => [Authorization => "Bearer $token"]);
my $send  = sub ($target) { my $http = $nginx->connect; $http->send_bytes(Headgate::Http->format_request('GET', $target, @bearer)); return $http };
my $seen  = sub ($path) { scalar grep { m{\AGET \Q$path\E } } $keys->requests };

# -- those that wait, and the one that carries ---------------------------------------------------------------
$keys->answer(body => $jwks, after => 'wait');
my @waiting = map { $send->('/wait') } 1 .. 40;
$t->wait_for('the fetch to begin', sub { $seen->('/jwks/wait') });
$_->reset for @waiting;
my $late = $send->('/wait');
$keys->release('wait');
is $late->read_response->status, 200, 'all clients of a fetch go away, it does not: a later request has its keys';
is $seen->('/jwks/wait'), 1, '... with no second fetch';

# -- HTTP/2 ------------------------------------------------------------------------------------------------------
$keys->answer(body => $jwks, after => 'h2');
my $client = $t->start(
    name => 'curl', stop_signal => 'KILL',
    command => ['curl', '-s', '--http2-prior-knowledge', '-H', "Authorization: Bearer $token", 'http://127.0.0.1:' . $nginx->http2_port . '/h2?n=[1-20]', '--parallel'],
);
$t->wait_for('the fetch to begin', sub { $seen->('/jwks/h2') });
$client->crash;
$keys->release('h2');
is $nginx->get('/h2', @bearer)->status, 200, 'HTTP/2: a whole connection goes away during a fetch';

# -- a fetch behind a request that is on its way upstream --------------------------------------------------------
$keys->answer(body => $jwks);
is $nginx->get('/proxied', @bearer)->status, 200, 'a proxied request';
my $before = $seen->('/jwks/proxied');
is $before, 1, '... after one fetch';
$keys->answer(body => $jwks, after => 'proxied');
my @upstream;
$t->wait_for('a request with a fetch behind it', sub { push @upstream, $send->('/proxied'); $seen->('/jwks/proxied') > $before });
$_->reset for @upstream;
$t->wait_for('nginx to have noticed', sub { @upstream <= grep { /^499\|/ } $nginx->access_lines });
$keys->answer(body => $jwks);
$t->wait_for('another request to fetch', sub { $nginx->get('/proxied', @bearer)->status == 200 or fail('a request after an abandoned fetch'); $seen->('/jwks/proxied') > $before + 1 });
pass 'a fetch that went away with its request is made up for by a later one';
$keys->release('proxied');

# -- quit and death ---------------------------------------------------------------------------------------------------
$keys->answer(body => $jwks, after => 'quit');
my @held = map { $send->('/quit') } 1 .. 4;
$t->wait_for('the fetch to begin', sub { $seen->('/jwks/quit') });
my ($old) = $nginx->worker_pids;
$nginx->reload;
$keys->release('quit');
is_deeply [map { $_->read_response->status } @held], [(200) x 4], 'a worker that quits ends the fetch, and its requests are answered';
$t->wait_for('the old worker to leave', sub { !grep { $_ == $old } $nginx->worker_pids });

$keys->answer(body => $jwks, after => 'killed');
my $lost = $send->('/killed');
$t->wait_for('the fetch to begin', sub { $seen->('/jwks/killed') });
my ($victim) = $nginx->worker_pids;
$nginx->expect_alarms(qr/worker process \d+ exited on signal 9/);
kill 'KILL', $victim;
$t->wait_for('a new worker', sub { my @now = $nginx->worker_pids; @now && !grep { $_ == $victim } @now });
$keys->release('killed');
# The dead worker's claim holds for ten seconds; meanwhile requests wait their five and are answered.
is $nginx->get('/wait', @bearer)->status, 200, 'a worker that dies leaves the other sets alone';

$t->done;
