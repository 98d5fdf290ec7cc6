# Keys by subrequest: fetched once, kept for all workers, renewed, and never more than the operator meant. The
# upstream is a server of this test's own that writes down each request.
use v5.36;
use Test::More;

use Headgate::Credentials qw(base64url random_hex);
use Headgate::Edge;
use Headgate::KeyServer;
use Headgate::Keys;
use Headgate::Test;

my $t    = Headgate::Test->new;
my $keys = Headgate::KeyServer->start($t);
my $old  = Headgate::Keys->make($t, 'P-256');
my $new  = Headgate::Keys->make($t, 'Ed25519');
my $rsa  = Headgate::Keys->make($t, 'RSA');
$t->write_file('html/keys.json', Headgate::Keys::jwks($rsa->jwk));
my $twin_port = $t->port;
my $foreign = 'issuer=https://id.example org=claim:tenant "scopes=events:* inbox:read"';
my $upstream = "proxy_pass http://127.0.0.1:@{[ $keys->port ]}/jwks.json; proxy_read_timeout 3s;";

# Each location has a URI, and so a key set, of its own.
my @sets = qw(first shared wait stale static hostile1 hostile2 hostile3 hostile4 hostile5 hostile6 hostile7 hostile8 edge slow);
my %set  = map { $_ => <<~"CONF" } @sets;
    location = /jwks/$_ { internal; $upstream }
    location = /$_ { headgate_auth jwt; headgate_jwt_key_request /jwks/$_ $foreign; empty_gif; }
    CONF
$set{stale} =~ s/empty_gif/headgate_jwt_key_cache 1s; empty_gif/;
$set{slow} =~ s/proxy_read_timeout 3s/proxy_read_timeout 20s/;
$set{static} =~ s{proxy_pass[^\n]*}{root @{[ $t->path('html') ]}; rewrite ^ /keys.json break; \}};
$set{wait} =~ s/empty_gif/headgate_limit rate=1000000r\/s; empty_gif/;

my $edge = Headgate::Edge->start(
    $t, workers => 2, locations => join('', values %set) . <<~"CONF",
        location = /both {
            headgate_auth jwt;
            headgate_jwt_key_file @{[ $rsa->public_file ]} issuer=https://rsa.example org=fixed-org scopes=inbox:read;
            headgate_jwt_key_request /jwks/first $foreign;
            empty_gif;
        }
        location = /jwks/down { internal; proxy_pass http://127.0.0.1:@{[ $t->port ]}; }
        location = /down {
            headgate_auth jwt;
            headgate_jwt_key_file @{[ $rsa->public_file ]} issuer=https://rsa.example org=fixed-org scopes=inbox:read;
            headgate_jwt_key_request /jwks/down $foreign;
            empty_gif;
        }
        CONF
);
my $nginx = $edge->nginx;
my @claims = (claims => { iss => 'https://id.example', org => undef, tenant => 'acme', scope => 'events:write admin:all' });

sub ask ($target, $token, @headers) { $nginx->get($target, headers => [Authorization => "Bearer $token", @headers]) }
sub status_of ($target, $token) { ask($target, $token)->status }
sub logged ($beginning, $target, $times = 1) {
    $t->wait_for("$beginning for $target in the log", sub { $times <= grep { m{^$beginning\|.*\|$target\z} } $nginx->access_lines });
}
# Workers take turns as the kernel likes: asked often enough both have answered.
sub statuses ($target, $token, $times = 20) { my %seen; $seen{ status_of($target, $token) }++ for 1 .. $times; return join ' ', sort keys %seen }
sub serve_keys (@keys) { $keys->answer(body => Headgate::Keys::jwks(map { $_->jwk } @keys)) }
sub fetches ($code) { my $before = $keys->count; $code->(); return $keys->count - $before }

my $good   = $old->token('ES256', @claims);
my $rotated = $new->token('EdDSA', @claims);

# -- one fetch, for all workers -----------------------------------------------------------------------
serve_keys($old);
my $requests = $edge->status->{requests};
is fetches(sub { is statuses('/first', $good), '200', 'a token under a fetched key, on every worker' }), 1, '... after one fetch';
is $edge->status->{requests}{total} // $edge->status->{requests}{accepted}, ($requests->{total} // $requests->{accepted}) + 20, 'the fetch is no request of its own'
    if defined($requests->{total} // $requests->{accepted});
is statuses('/both', $good, 4), '200', 'beside a key file, and for another location, without another fetch';
my $of_file = $rsa->token('RS256', header => { kid => undef }, claims => { iss => 'https://rsa.example', org => undef });
is status_of('/both', $of_file), 200, '... where the file still counts';
is status_of('/both', $rsa->token('RS256', header => { kid => undef }, @claims)), 401, 'each source is good for its own issuer only';

# -- one that never answers: its requests are not held longer than 5 s; read at the end --------------------------
$keys->answer(body => '', after => 'never');
my @stuck = map { my $http = $nginx->connect; $http->send_bytes(Headgate::Http->format_request('GET', '/slow', headers => [Authorization => "Bearer $good"])); $http } 1 .. 3;
$t->wait_for('the slow fetch to begin', sub { $keys->count == 2 });
serve_keys($old);

# -- what the upstream sees -----------------------------------------------------------------------------
{
    my $http  = $nginx->connect;
    my $token = $old->token('ES256', @claims);
    my $answer = $http->request(
        'POST', '/edge?secret=args', body => 'a body that stays', headers => [
            Authorization => "Bearer $token", Cookie => 'sid=42', 'X-Forwarded-For' => '6.6.6.6', Range => 'bytes=0-3', 'Accept-Encoding' => 'gzip',
            'If-None-Match' => '"x"', 'If-Modified-Since' => 'Sun, 06 Nov 1994 08:49:37 GMT', 'Content-Type' => 'text/plain', 'User-Agent' => 'the-client', Referer => 'http://r.example/',
        ],
    );
    is $answer->status, 405, 'a POST with a body and many headers is let in (and empty_gif does not like it)';
    my $seen = $keys->last;
    like $seen, qr{\AGET /jwks\.json HTTP/1\.(?:0\r\nHost: 127\.0\.0\.1:\d+\r\nConnection: close|1\r\nHost: 127\.0\.0\.1:\d+)\r\n\r\n\z}, 'the upstream sees a request of its own'
        or diag $seen;
    is $http->request('GET', '/edge', headers => [Authorization => "Bearer $token"])->status, 200, 'and the connection goes on';
}

# -- rotation -----------------------------------------------------------------------------------------------
serve_keys($new);
is fetches(sub { is status_of('/first', $rotated), 200, 'an unknown kid is looked up at once, and its request waits' }), 1, '... in one fetch';
is statuses('/first', $rotated), '200', '... for every worker';
is statuses('/first', $good), '401', 'a key that is gone is gone';
logged('401\|unknown_kid', '/first');
is fetches(sub { status_of('/first', Headgate::Keys::token($new, 'EdDSA', @claims, header => { kid => random_hex(8) })) for 1 .. 30 }), 0,
    'a flood of random kids causes no fetch within the cooldown';
is fetches(sub { status_of('/shared', $good); status_of('/shared', "$good-") for 1 .. 5; status_of('/shared', 'x.y.z') for 1 .. 5 }), 2, 'the first fetch, one for an unknown kid, none for broken tokens';

# -- many at once -------------------------------------------------------------------------------------------
serve_keys($old);
$keys->answer(body => Headgate::Keys::jwks($old->jwk), after => 'go');
is fetches(sub {
    my @waiting = map { my $http = $nginx->connect; $http->send_bytes(Headgate::Http->format_request('GET', '/wait', headers => [Authorization => "Bearer $good"])); $http } 1 .. 24;
    $t->wait_for('the fetch to arrive', sub { $keys->last =~ /^GET/ && -e "$keys->{dir}/requests" && $keys->count });
    $_->reset for splice @waiting, 0, 12;    # among them perhaps the one that carries the fetch
    $keys->release('go');
    my %seen;
    $seen{ $_->read_response->status }++ for @waiting;
    is_deeply \%seen, { 200 => 12 }, 'requests that wait for the first set are all answered, whoever else went away';
}), 1, '... by one fetch';

# -- stale ----------------------------------------------------------------------------------------------------
serve_keys($old);
is status_of('/stale', $good), 200, 'a set with a lifetime of one second';
$keys->answer(status => 500, body => 'broken');
my $at = $keys->count;
$t->wait_for('an expired set to be asked for again', sub { is_quiet_200('/stale', $good); $keys->count > $at });
is statuses('/stale', $good), '200', 'the old set stays good while the upstream fails';
is $keys->count, $at + 1, '... which is left in peace for a while';
sub is_quiet_200 ($target, $token) { my $status = status_of($target, $token); fail("a request during renewal: $status") if $status != 200 }

# -- other sources of the answer ------------------------------------------------------------------------------
is statuses('/static', $rsa->token('PS384', @claims)), '200', 'a JWKS that nginx itself serves from a file';
$keys->answer(
    headers => ['Transfer-Encoding: chunked'],
    body    => do { my $body = Headgate::Keys::jwks($old->jwk); join('', map { sprintf "%x\r\n%s\r\n", length, $_ } unpack '(a50)*', $body) . "0\r\n\r\n" },
);
is status_of('/hostile1', $good), 200, 'a chunked one';

# -- hostile answers ------------------------------------------------------------------------------------------
my $jwks   = Headgate::Keys::jwks($old->jwk);
my $padded = sub ($bytes) { $jwks =~ s/\A\{/'{"pad":"' . 'x' x ($bytes - length($jwks) - 9) . '",'/re };
my @hostile = (
    ['64 KiB are taken', 200, body => $padded->(65536)],
    ['64 KiB and a byte are not', 503, body => $padded->(65537)],
    ['the same without a declared length', 503, raw => "HTTP/1.0 200 OK\r\n\r\n" . $padded->(65537)],
    ['HTML', 503, headers => ['Content-Type: text/html'], body => '<html>sign in</html>'],
    ['a redirect', 503, status => 302, headers => ["Location: http://127.0.0.1:@{[ $keys->port ]}/jwks.json"], body => $jwks],
    ['keys with a 404', 503, status => 404, body => $jwks],
    ['one that is cut short', 503, headers => ['Content-Length: 5000'], body => $jwks],
);
for my $i (0 .. $#hostile) {
    my ($what, $status, %answer) = $hostile[$i]->@*;
    $keys->answer(%answer);
    my $answer = ask('/hostile' . ($i + 2), $good);
    is $answer->status, $status, "an answer of $what" =~ s/answer of (\d)/answer: $1/r or diag $answer->body;
}
my @more = (
    ['compressed', headers => ['Content-Encoding: gzip'], body => $jwks],
    ['with a secret in it', body => Headgate::Keys::jwks({ kty => 'oct', kid => 'o', k => base64url('s' x 64) })],
    ['empty', body => ''],
    ['no keys', body => '{"keys":[]}'],
    ['no HTTP at all', raw => "hello\n"],
    ['nothing', raw => ''],
);
my $turn = 0;
for my $case (@more) {
    my ($what, %answer) = @$case;
    $keys->answer(%answer);
    # A source that failed is asked again after a second. They take turns, so that it is one second for all.
    my $target = '/hostile' . (3 + $turn++);
    my $before = $keys->count;
    my $status;
    $t->wait_for("another fetch ($what)", sub { $status = status_of($target, $good); $keys->count > $before });
    is $status, 503, "an answer that is $what";
}
serve_keys($old);
$t->wait_for('a hostile source to be good again', sub { status_of('/hostile4', $good) == 200 });
is status_of('/hostile4', do { my $forged = Headgate::Credentials::jwt('s' x 64, header => { kid => 'o' }, @claims); $forged }), 401, 'a secret that was offered is no key';

is_deeply [map { $_->read_response->status } @stuck], [503, 503, 503], 'a source that does not answer: 503';
$keys->release('never');
# The one that carried the fetch is logged when that has ended.
logged('503\|unavailable', '/slow', 3);

# -- a source that is down --------------------------------------------------------------------------------------
is status_of('/down', $of_file), 200, 'a source that is down does not disturb the others';
is status_of('/down', $good), 503, 'a token that might have been its own is 503';
logged('503\|unavailable', '/down');
is status_of('/down', 'a.b.c'), 401, 'what is no token at all stays 401';

# -- reload -------------------------------------------------------------------------------------------------------
$nginx->reload;
serve_keys($old, $new);
is status_of('/first', $rotated), 200, 'after a reload the keys are still there';
$t->wait_for('the set to be renewed after the reload', sub { status_of('/first', $good) == 200 });

# -- a reload with an edit above the server, while the source is down --------------------------------------------------
# Sets were known by the line of their server: any edit above it forgot them.
sub server_of ($names, $listen = '') {
    return <<~"CONF";
        server {
            listen 127.0.0.1:$twin_port $listen;
            server_name $names;
            location = /jwks/twin { internal; $upstream }
            location = /twin { headgate_auth jwt; headgate_jwt_key_request /jwks/twin $foreign; empty_gif; }
        }
        CONF
}
sub twin ($host, $token) {
    my $http   = Headgate::Http->connect(port => $twin_port);
    my $status = $http->request('GET', '/twin', headers => [Host => $host, Authorization => "Bearer $token"])->status;
    $http->close;
    return $status;
}
serve_keys($old);
my $twins = Headgate::Edge->start(
    $t, name => 'twins', redis => $edge->redis, projected => 0, http => server_of('a.example b.example') . server_of('a.example b.example', 'default_server'),
);
my $http_before = $twins->nginx->{http} =~ s/ server \{.*//sr;
my $reload_with = sub ($text) { $twins->nginx->configure(http => $text); $twins->nginx->reload_and_wait };
is twin('a.example', $good), 200, 'a server fetches';
serve_keys($new);
is twin('other.example', $rotated), 200, 'another of the same addresses and names has a set of its own';
is twin('a.example', $good), 200, '... and the first its own';
$keys->answer(status => 500, body => 'broken');
$reload_with->("# a line more\n\n$http_before\n\n" . server_of('b.example  a.example') . "\n" . server_of('b.example a.example', 'default_server'));
is twin('a.example', $good), 200, 'an edit above the server, and the keys are still there while they cannot be fetched';
is twin('other.example', $rotated), 200, '... of both';
$reload_with->($http_before . server_of('a.example c.example') . server_of('c.example', 'default_server'));
is twin('a.example', $good), 503, 'a server of other names has no keys yet';

$t->done;
