# Every nginx.conf of conf/ is started as it stands there (t/lib/Headgate/Example.pm says what little is changed) and does what
# its comments say.
use v5.36;
use JSON::PP ();
use Test::More;

use Headgate::Cluster;
use Headgate::Example;
use Headgate::Test;

my $t     = Headgate::Test->new;
my $redis = $t->redis;
my $root  = $t->root;
my %started;
sub example ($file, %args) { $started{$file} = 1; return Headgate::Example->start($t, $file, redis => $redis, %args) }
sub get ($port, $target, @headers) { ask($port, 'GET', $target, @headers) }
sub ask ($port, $method, $target, @headers) {
    return Headgate::Http->connect(port => $port)->request($method, $target, headers => [@headers]);
}
# The headers that reached the upstream: {lowercase name => [values]}.
sub passed_on ($answer) {
    my %headers;
    my $head = $answer->body;
    push $headers{ lc $1 }->@*, $2 while $head =~ /^([^:\r\n]+): ?([^\r\n]*)\r$/mg;
    return \%headers;
}

# -- protect-existing-api.conf ----------------------------------------------------------------------------
{
    my $edge = example('protect-existing-api.conf');
    my $port = $edge->port(8080);
    my $key  = $edge->add_key(scopes => 'orders:read', plan => 'pro');
    my $root_key = $edge->add_key(scopes => 'admin', plan => 'pro');
    my @forged = map { my $name = $_; map { (s/-/_/gr => 'forged', s/Headgate-/Headgate_/r => 'forged', $_ => 'forged', lc $_ => 'forged') } $name }
        qw(X-Headgate-Org X-Headgate-Key-Id X-Headgate-Sub X-Headgate-Scope X-Headgate-Plan);

    my $answer = get($port, '/api/orders', 'X-API-Key' => $key, @forged);
    is $answer->status, 200, 'protect: a key';
    ok defined $answer->header('RateLimit'), '... limited by its plan';
    my $seen = passed_on($answer);
    is_deeply { map { $_ => $seen->{$_} } grep { /headgate/ } keys %$seen },
        { 'x-headgate-org' => ['org-test'], 'x-headgate-key-id' => [$edge->key_id($key)], 'x-headgate-scope' => ['orders:read'], 'x-headgate-plan' => ['pro'] },
        '... its identity reaches the API, and nothing that was forged, underscores included';
    is $seen->{'x-api-key'}, undef, '... and the key itself does not';
    $seen = passed_on(get($port, '/api/orders', Authorization => 'Bearer ' . $edge->token(claims => { plan => 'nobody-knows' }), @forged));
    is_deeply [$seen->@{qw(x-headgate-org x-headgate-sub authorization)}], [['org-test'], ['api'], undef], 'protect: a token';
    is get($port, '/api/orders', @forged)->status, 401, 'protect: nobody';
    is get($port, '/api/admin/users', 'X-API-Key' => $key)->status, 403, 'protect: the scope is missing';
    is get($port, '/api/admin/users', 'X-API-Key' => $root_key)->status, 200, '... or there';
    my $public = get($port, '/api/public/prices', @forged);
    is $public->status, 200, 'protect: what is open to all';
    is $public->header('X-RateLimit-Limit'), 60, '... is limited by address';
    is_deeply [grep { /headgate/ } keys passed_on($public)->%*], [], '... and nobody has an identity there';

    my $preflight = ask($port, 'OPTIONS', '/api/orders', Origin => 'https://app.example.com', 'Access-Control-Request-Method' => 'POST');
    is $preflight->status, 204, 'protect: a preflight is answered before authentication';
    like $preflight->header('Access-Control-Allow-Headers'), qr/X-API-Key/, '... and says what may be sent';
    is $preflight->header('RateLimit'), undef, '... and is not charged';
    is ask($port, 'OPTIONS', '/api/orders')->status, 401, '... OPTIONS that is no preflight is authenticated';
    is ask($port, 'OPTIONS', '/api/orders', 'X-API-Key' => $key)->status, 200, '... and passed on';
    is get($port, '/status')->json->{requests}{refused}{missing}, 2, 'protect: the status, from here';

    get($port, q{/api/"quoted"\\x?q="\\"\xff}, 'X-API-Key' => $key);
    my @lines = map { JSON::PP->new->utf8->decode($_) } $edge->access_log(10);
    is_deeply [$lines[0]->@{qw(method uri status auth limit org key_id plan)}],
        ['GET', '/api/orders', '200', 'ok', 'passed', 'org-test', $edge->key_id($key), 'pro'], 'protect: the log is JSON';
    like $lines[0]{redis_seconds}, qr/\A\d+\.\d{3}\z/, '... with the time that Redis took';
    is_deeply [$lines[2]->@{qw(status auth org)}], ['401', 'missing', ''], '... and why nobody was let in';
    is $lines[-1]{uri}, q{/api/"quoted"\\x?q="\\"\xff}, '... whatever a client sends';
}

# -- ingest-only.conf -------------------------------------------------------------------------------------
{
    my $edge = example('ingest-only.conf');
    my $key  = $edge->add_key;
    is $edge->publish(key => $key)->status, 201, 'ingest: an event';
    is $edge->publish(key => $key, body => Headgate::Edge::event_body(payload => { data => 'x' x 200_000 }))->status, 201, '... a large one';
    is $edge->publish(key => $key, body => Headgate::Edge::event_body(payload => { data => 'x' x 262_144 }))->status, 413, '... a larger one';
    is $edge->publish(key => $edge->add_key(scopes => 'x:y'))->status, 403, '... without the scope';
    is $edge->publish(token => $edge->token)->status, 201, '... with a token';
    is get($edge->port(8080), '/')->status, 404, '... nothing else is here';
    is get($edge->port(8080), '/status')->status, 404, '... the status neither';
    my $metrics = get($edge->port(8081), '/status?format=prometheus');
    like $metrics->body, qr/^headgate_edge_events_published_total 3$/m, '... which is beside it, for Prometheus';
    $t->wait_for('the log to be flushed', sub { $edge->access_log(0) >= 7 });
    my ($first) = $edge->access_log(0);
    like $first, qr{\A127\.0\.0\.1 \[[^]]+\] "POST /events HTTP/1\.1" 201 \d+ \d+\.\d{3} redis=\d+\.\d{3} auth=ok limit=passed org=org-test key=hg_\w{8} sub=- event=[0-9a-f-]{36}\z}, '... and the log';
}

# -- tls.conf ---------------------------------------------------------------------------------------------
{
    my $pem  = $t->certificate('localhost');
    my $edge = example('tls.conf', port => 80, files => { 'tls/fullchain.pem' => $t->read_file($pem), 'tls/key.pem' => $t->read_file($t->path('localhost.key')) });
    my $key  = $edge->add_key(plan => 'pro');
    my $url  = 'https://localhost:' . $edge->port(443);
    my $curl = sub (@words) { my $said = `curl -s -S -i --cacert $pem @{[ join ' ', map { quotemeta } @words ]} 2>&1`; $said };
    my @json = ('-H', 'Content-Type: application/json', '-d', Headgate::Edge::event_body());
    for my $version (qw(1.1 2)) {
        like $curl->("--http$version", '-H', "X-API-Key: $key", @json, "$url/events"), qr{\AHTTP/$version 201.*strict-transport-security: max-age.*"status":"pending"}si,
            "tls: an event over HTTP/$version";
        my $api = $curl->("--http$version", '-H', "X-API-Key: $key", '-H', 'X-Headgate-Org: forged', "$url/api/x");
        like $api, qr{\AHTTP/$version 200.*X-Headgate-Org: org-test\r\n}s, "tls: the API over HTTP/$version";
        unlike $api, qr/forged/, '... with no forged identity';
        like $curl->("--http$version", "$url/api/x"), qr{\AHTTP/$version 401.*www-authenticate: Bearer realm="headgate"\r\n}si, '... not for strangers';
    }
    like $curl->("$url/token"), qr{\AHTTP/2 200.*x-ratelimit-remaining: 29\r\n}s, 'tls: /token is limited by address';
    my $plain = $edge->port(80);
    is $edge->publish(key => $key)->status, 403, 'tls: no credentials in the clear';
    my $moved = get($plain, '/docs', Host => 'shop.example');
    is_deeply [$moved->status, $moved->header('Location')], [301, 'https://shop.example/docs'], '... people are sent on';
}

# -- behind-load-balancer.conf -----------------------------------------------------------------------------
{
    my $edge = example('behind-load-balancer.conf');
    my $key  = $edge->add_key(allowed_ips => '203.0.113.0/24');
    my $event = sub ($from) { $edge->publish(key => $key, headers => ['X-Forwarded-For' => $from])->status };
    is $event->('203.0.113.7'), 201, 'load balancer: an address that the key allows';
    is $event->('198.51.100.7'), 403, '... one that it does not';
    is $event->('203.0.113.7, 198.51.100.7'), 403, '... what the client wrote there itself is not believed';
    is $event->('198.51.100.7, 203.0.113.7, 127.0.0.9'), 201, '... load balancers behind load balancers are skipped';
    my $tcp = sub ($from) {
        my $http = Headgate::Http->connect(port => $edge->port(8090));
        $http->send_bytes("PROXY TCP4 $from 127.0.0.1 5000 8090\r\n"
            . Headgate::Http->format_request('POST', '/events', headers => [$edge->headers(key => $key)], body => Headgate::Edge::event_body()));
        return $http->read_response->status;
    };
    is $tcp->('203.0.113.7'), 201, 'load balancer: by the PROXY protocol';
    is $tcp->('198.51.100.7'), 403, '... and another address';
    is get($edge->port(8080), '/ready')->body, "ready\n", '... which asks without a credential';
    for my $case (['203.0.113.7', 29], ['203.0.113.8', 29], ['203.0.113.7', 28]) {
        my ($from, $left) = @$case;
        my $answer = get($edge->port(8080), '/token', 'X-Forwarded-For' => $from);
        is $answer->header('X-RateLimit-Remaining'), $left, "... limited by the client's address: $from";
        is_deeply passed_on($answer)->{'x-forwarded-for'}, [$from], '... which is what is passed on';
    }
    my @lines = $edge->access_log(9);
    like $lines[0], qr/\A203\.0\.113\.7 /, '... and logged';
}

# -- minimal.conf -----------------------------------------------------------------------------------------
{
    my $edge = example('minimal.conf');
    my $port = $edge->port(8080);
    my $key  = $edge->add_key(plan => 'free');
    is $edge->publish(key => $key)->status, 201, 'minimal: an event';
    is get($port, '/health')->status, 200, '... what is open to all';
    is get($port, '/api/webhooks')->status, 401, '... and what is not';
    is get($port, '/api/webhooks', 'X-API-Key' => $key)->status, 200, '... with a key';
    is get($port, '/token')->header('X-RateLimit-Limit'), 30, '... /token, limited by address';
}

# -- cluster.conf -------------------------------------------------------------------------------------------
{
    my $cluster = Headgate::Cluster->start($t);
    my $edge    = Headgate::Example->start($t, 'cluster.conf', redis => $cluster, shards => 64);
    $started{'cluster.conf'} = 1;
    my $key  = $edge->add_key;
    my @sent = map { $edge->publish(key => $key) } 1 .. 30;
    is scalar(grep { $_->status == 201 } @sent), 30, 'cluster: events';
    my $batch = $edge->publish(key => $key, target => '/events/batch', body => '[' . join(',', map { Headgate::Edge::event_body(payload => { n => $_ }) } 1 .. 20) . ']');
    is $batch->json->{accepted}, 20, '... and a batch of them';
    my @streams = $cluster->streams_of;
    my $stored  = 0;
    $stored += $_->[0]->command('XLEN', $_->[1]) for @streams;
    is $stored, 50, '... are there';
    my %nodes = map { $_->[0]->port => 1 } @streams;
    is scalar(keys %nodes), 3, '... on every master';
    is get($edge->port(8081), '/status')->json->{redis}{state}, 'ready', '... and the status says so';
}

# -- log-formats.conf ----------------------------------------------------------------------------------------
{
    my $nginx = $t->nginx(
        name => 'logs', http => $t->read_file("$root/conf/log-formats.conf") . "access_log @{[ $t->dir('logs') ]}/access.log headgate;\n",
        server => 'location / { return 204; }',
    );
    my @secret = ('/x?api_key=hg_SECRET', '/x?a=1&api_key=hg_SECRET&b=2', '/x?API_KEY=hg_SECRET', '/x?b&Api_Key=hg_SECRET', '/x?api_key=a&api_key=hg_SECRET');
    my @plain  = ('/x?a=1', '/x?not_api_key=1', '/x', '/api_key=1');
    $nginx->get($_) for @secret, @plain;
    my @lines = $nginx->access_lines(@secret + @plain);
    is scalar(grep { /SECRET/ } @lines), 0, 'logs: no API key of an argument';
    like $lines[$_], qr{"GET /x\?\[hidden\] HTTP/1\.1" 204}, "... $secret[$_]" for 0 .. $#secret;
    like $lines[@secret + $_], qr{"GET \Q$plain[$_]\E HTTP/1\.1" 204}, "... $plain[$_] is logged as it is" for 0 .. $#plain;
}

my %there = map { s{.*/}{}r => 1 } glob "$root/conf/*.conf";
delete @there{qw(plans.conf log-formats.conf mod-http-headgate.conf)};
is_deeply \%started, \%there, 'every example was started';
my $list = $t->read_file("$root/conf/README.md");
like $list, qr/`\Q$_\E`/, "conf/README.md has $_" for sort keys %there;

$t->done;
