# Rate limits through a real nginx: what is charged, what is refused, what the client is told. Leases
# and failures have files of their own.
use v5.36;
use Test::More;

use Digest::SHA qw(sha256_hex);

use Headgate::Edge;
use Headgate::Load;
use Headgate::Test;

my $t    = Headgate::Test->new;
my $html = $t->dir('html');
$t->write_file('html/page', "page\n", 0644);
my $page = "root $html; try_files /page =404;";
my $upstream = $t->port;

my $edge = Headgate::Edge->start(
    $t,
    workers   => 2,
    http      => <<~"CONF",
        headgate_limit_mode exact;
        headgate_plan tiny rate=3r/d;
        large_client_header_buffers 4 80k;
        server {
            listen 127.0.0.1:$upstream;
            location / { add_header RateLimit forged; add_header x-ratelimit-limit 999; add_header X-RateLimit-Other kept; return 200 up; }
        }
        CONF
    locations => <<~"CONF",
        location = /hundred { headgate_limit rate=100r/d key=\$arg_k; $page }
        location = /lease   { headgate_limit rate=100r/d key=\$arg_k; headgate_limit_mode lease; $page }
        location = /windows { headgate_limit rate=5r/h rate=3r/d key=\$arg_k; $page }
        location = /two     { headgate_limit rate=4r/d name=a key=\$arg_a; headgate_limit rate=6r/d name=b key=\$arg_b; $page }
        location = /cost    { headgate_limit rate=10r/d key=\$arg_k cost=\$arg_c; $page }
        location = /deny    { headgate_limit rate=10r/d key=\$arg_k empty=deny; $page }
        location = /shared1 { headgate_limit rate=2r/d name=shared key=\$arg_k; $page }
        location = /shared2 { headgate_limit rate=2r/d name=shared key=\$arg_k; $page }
        location = /apart   { headgate_limit rate=2r/d name=apart key=\$arg_k; $page }
        location = /dry     { headgate_limit rate=1r/d key=\$arg_k; headgate_limit_dry_run on; $page }
        location = /status503 { headgate_limit rate=1r/d key=\$arg_k; headgate_limit_status 503; $page }
        location = /silent  { headgate_limit rate=1r/d key=\$arg_k; headgate_limit_headers off; $page }
        location = /proxied { headgate_limit rate=60r/m rate=1000r/h key=\$arg_k; proxy_pass http://127.0.0.1:$upstream; }
        location = /plan    { headgate_auth jwt api_key; headgate_limit plan; $page }
        location = /plan2   { headgate_auth jwt api_key; headgate_limit plan; $page }
        location = /default { headgate_auth jwt api_key; headgate_limit plan default_plan=tiny; $page }
        location = /caller  { headgate_auth jwt api_key; headgate_limit rate=2r/d name=caller; $page }
        location = /redirected { headgate_limit rate=3r/d name=r key=\$arg_k; rewrite ^ /redirected2; }
        location = /redirected2 { headgate_limit rate=3r/d name=r key=\$arg_k; error_page 404 = /windows; $page }
        location = /value   { headgate_limit rate=100r/d name=h key=\$http_x_key; $page }
        location = /dry_events { headgate_auth jwt; headgate_limit rate=1r/d name=dry_events; headgate_limit_dry_run on; headgate_publish event; }
        CONF
);
my $redis = $edge->redis;
my $n = 0;
sub fresh { 'k' . ++$n }
sub get ($target, @headers) { $edge->nginx->get($target, headers => \@headers) }
sub statuses ($target, $times, @headers) { join ' ', map { get($target, @headers)->status } 1 .. $times }

# -- exactly the quota, whoever asks at the same time ---------------------------------------------------
for my $mode ('hundred', 'lease') {
    my $request = Headgate::Http->format_request('GET', "/$mode?k=crowd-$mode");
    my $counts = Headgate::Load->run(port => $edge->nginx->port, connections => 64, requests => 640, bytes => $request);
    is_deeply $counts, { 200 => 100, 429 => 540 }, "64 concurrent clients, $mode: exactly the quota passes";
}

# -- windows, limiters, costs ---------------------------------------------------------------------------
my $k = fresh();
is statuses("/windows?k=$k", 5), '200 200 200 429 429', 'the tightest window decides';
my %fields = $redis->command('HGETALL', "headgate:limit:{v:5r%2Fh%2B3r%2Fd:$k}")->@*;
is_deeply [sort keys %fields], ['5r/h+3r/d:d', '5r/h+3r/d:h'], 'a field for each window, named by the rates as written';
like get("/windows?k=$k")->header('RateLimit'), qr/\A"hour";r=2;t=\d+, "day";r=0;t=\d+\z/, 'a refusal charges no window';

is statuses('/two?a=1&b=1', 5), '200 200 200 200 429', 'the first of two limiters refuses';
is statuses('/two?b=2', 7), '200 200 200 200 200 200 429', 'an empty key is not counted, the other limiter is';
is statuses('/deny', 1), '403', 'empty=deny';
is statuses('/deny?k=1', 1), '200', 'and allows what has a key';

$k = fresh();
is statuses("/cost?k=$k&c=4", 3), '200 200 429', 'cost=4 of 10';
is statuses("/cost?k=$k&c=$_", 1), '200', "cost '$_' counts as 1" for 'x', '-3';
is statuses("/cost?k=$k", 1), '429', 'two of ten were left';
$k = fresh();
for my $cost (11, '99999999999999999999') {
    my $answer = get("/cost?k=$k&c=$cost");
    is $answer->status, 429, "cost $cost is above the burst: 429";
    is $answer->header('Retry-After'), undef, 'without Retry-After';
}
is statuses("/cost?k=$k&c=10", 2), '200 429', 'and nothing was charged';

# -- names, plans, callers ------------------------------------------------------------------------------
$k = fresh();
is join(' ', map { statuses("/$_?k=$k", 1) } qw(shared1 shared2 shared1 apart)), '200 200 429 200', 'one name, one bucket';
my $token = $edge->token(claims => { plan => 'tiny' });
my $key   = $edge->add_key(limits => '2r/d', plan => 'tiny');
is join(' ', map { statuses($_, 1, 'X-API-Key' => $key) } qw(/plan /plan2 /plan)), '200 200 429', "a key's own limits, shared by all locations";
is statuses('/caller', 3, 'X-API-Key' => $key), '200 200 429', 'rate= without key= limits the caller, apart from the plan';
is statuses('/plan', 4, Authorization => "Bearer $token"), '200 200 200 429', 'the plan of a token';
my $same = $edge->token(claims => { plan => 'tiny' });
is statuses('/plan', 1, Authorization => "Bearer $same"), '429', 'tokens of one issuer and subject share it';
ok $redis->command('EXISTS', 'headgate:limit:{s:' . sha256_hex("headgate\0api") . '}'), 'under the hash of both';

# A key's limits hold in place of its plan, for what is made from it too. When they change, that holds for the key and for
# tokens that are made then; what was used up stays used up.
{
    my $own    = $edge->add_key(limits => '4r/d', plan => 'tiny');
    my $id     = $edge->key_id($own);
    my @key    = ('X-API-Key' => $own);
    my @bearer = (Authorization => 'Bearer ' . $edge->token(claims => { key => $id, limits => '4r/d', plan => 'tiny' }));
    is join(' ', statuses('/plan', 2, @key), statuses('/plan', 3, @bearer), statuses('/plan', 1, @key)), '200 200 200 200 429 429',
        "a key and its tokens spend the key's limits together, whatever its plan";
    my $both = get('/plan', @key, @bearer);
    is $both->status, 400, 'both at once are refused';
    is $both->header('RateLimit'), undef, '... before anything is charged';
    $redis->command('HSET', $edge->key_name($own), limits => '6r/d');
    $edge->announce(key => $edge->key_name($own) =~ s{.*:}{}r);
    $t->wait_for('the new limits to hold for the key', sub { (get('/plan', @key)->header('RateLimit-Policy') // '') =~ /q=6;/ });
    like get('/plan', @bearer)->header('RateLimit-Policy'), qr/q=4;/, 'a token that was made before has the limits of then';
    my $later = get('/plan', Authorization => 'Bearer ' . $edge->token(claims => { key => $id, limits => '6r/d', plan => 'tiny' }));
    like $later->header('RateLimit-Policy'), qr/q=6;/, '... one that is made now the new ones';
}
my $stranger = $edge->add_key(plan => 'platinum');
is statuses('/plan', 1, 'X-API-Key' => $stranger), '403', 'a plan that nobody knows';
is statuses('/default', 4, 'X-API-Key' => $stranger), '200 200 200 429', 'default_plan=';
is statuses('/plan', 1, 'X-API-Key' => $edge->add_key(limits => 'many')), '403', 'limits that do not parse';
$k = fresh();
is statuses("/redirected?k=$k", 2), '200 200', 'across an internal redirect';
is $redis->command('HLEN', "headgate:limit:{v:r:$k}"), 1, 'one bucket';

# -- what is told ---------------------------------------------------------------------------------------
$k = fresh();
for my $case (['/proxied', 'a proxied response'], ['/proxied2', 'a refusal']) {
    my $answer = get("/proxied?k=$k");
    is $answer->status, 200, 'proxied';
    is $answer->header('RateLimit-Policy'), '"minute";q=60;w=60, "hour";q=1000;w=3600', 'RateLimit-Policy';
    like $answer->header('RateLimit'), qr/\A"minute";r=5[89];t=[12], "hour";r=99[89];t=[48]\z/, "RateLimit, in place of the upstream's";
    is $answer->header('X-RateLimit-Limit'), 60, 'X-RateLimit-Limit of the tightest, and no other';
    like $answer->header('X-RateLimit-Remaining'), qr/\A5[89]\z/, 'X-RateLimit-Remaining';
    like $answer->header('X-RateLimit-Reset'), qr/\A[12]\z/, 'X-RateLimit-Reset';
    is $answer->header('X-RateLimit-Other'), 'kept', 'what only resembles them stays';
}
$k = fresh();
get("/silent?k=$k");
my $silent = get("/silent?k=$k");
is $silent->status, 429, 'headgate_limit_headers off refuses as well';
like $silent->header('Retry-After'), qr/\A\d+\z/, 'with Retry-After';
is $silent->header($_), undef, "but no $_" for qw(RateLimit RateLimit-Policy X-RateLimit-Limit X-RateLimit-Remaining X-RateLimit-Reset);
$k = fresh();
get("/status503?k=$k");
my $refused = get("/status503?k=$k");
is $refused->status, 503, 'headgate_limit_status';
is $refused->json->{type}, 'https://iana.org/assignments/http-problem-types#quota-exceeded', 'still says why';
like $refused->header('Retry-After'), qr/\A[1-9]\d*\z/, 'and when';

$k = fresh();
is statuses("/dry?k=$k", 3), '200 200 200', 'a dry run lets everything pass';
is get("/dry?k=$k")->header('X-RateLimit-Remaining'), 0, 'and tells as if not';
my @log = grep { m{/dry\?} } $edge->nginx->access_lines;
like $log[0], qr/\|passed\|/, '$headgate_limit_status: passed';
like $log[1], qr/\|dry_run\|/, 'dry_run';
like +(grep { m{/cost\?k=.*c=11\b} } $edge->nginx->access_lines)[0], qr/\|rejected\|/, 'rejected';
like +(grep { m{/two\?b} } $edge->nginx->access_lines)[0], qr/\|passed\|/, 'passed where another key was empty';
is $edge->publish(token => $token, target => '/dry_events')->status, 201, "event $_ of a dry run is stored" for 1 .. 3;

# -- keys that clients choose ---------------------------------------------------------------------------
my @hostile = (
    ['braces' => '}{a}'], ['a colon' => 'x:y'], ['a percent sign' => '%41'], ['half a RESP command' => '$3 *1 FLUSHALL'],
    ['high bytes' => "\xff\x80"], ['64 KiB' => 'x' x 65_000], ['64 KiB, the last byte different' => 'x' x 64_999 . 'y'],
    # A long key was hashed to what a client could also send as a short one.
    ['129 bytes' => 'z' x 129], ['128 bytes' => 'z' x 128], ['what a long key is hashed to' => 'sha256-' . sha256_hex('z' x 129)], ['the same, as it is now' => 'sha256:' . sha256_hex('z' x 129)],
);
my %before = map { $_ => 1 } $redis->command('KEYS', '*')->@*;
for my $case (@hostile) {
    my ($name, $value) = @$case;
    my $answer = get('/value', 'X-Key' => $value);
    is $answer->status, 200, "key with $name";
    is $answer->header('X-RateLimit-Remaining'), 99, 'has a bucket of its own';
}
# What workers write by themselves once a second is no limit's key.
my @new = grep { !$before{$_} && !m{\Aheadgate:(?:usage|status):} } $redis->command('KEYS', '*')->@*;
is scalar @new, scalar @hostile, 'one key each, and no other';
is_deeply [grep { !/\Aheadgate:limit:\{v:h:[A-Za-z0-9%.:_~-]+\}\z/ } @new], [], 'each with one hash tag and nothing that ends it';
$k = fresh();
for my $bytes ('%0d%0aFLUSHALL%0d%0a', '%00', '%7Bx%7D') {
    is get("/hundred?k=$bytes")->status, 200, "an argument of $bytes (which nginx leaves escaped)";
}

# -- what cannot work -----------------------------------------------------------------------------------
my $good = $edge->nginx->{server};
$edge->nginx->expect_alarms(qr/nginx\.conf:\d+/);
for my $case (
    ['two windows of one unit', 'headgate_limit rate=5r/m rate=6r/m key=$arg_k;', qr/two rates of one unit/],
    ['an unknown default_plan', 'headgate_auth jwt; headgate_limit plan default_plan=nobody;', qr/headgate_plan "nobody" is not defined/],
    ['the caller where nobody is known', 'headgate_limit rate=5r/m;', qr/authentication is off here/],
    ['plan where nobody is known', 'headgate_limit plan;', qr/authentication is off here/],
    ['another status', 'headgate_limit_status 200;', qr/invalid status "200"/],
    ['another mode', 'headgate_limit_mode fast;', qr/invalid mode/],
    ['another way out', 'headgate_limit_on_error pray;', qr/local, allow or deny/],
    ['nine limits', 'headgate_limit rate=5r/m key=$arg_k;' x 9, qr/more than 8 limits/],
) {
    my ($name, $text, $pattern) = @$case;
    $edge->nginx->configure(server => "$good location = /wrong { $text }");
    my ($code, $said) = $edge->nginx->test_configuration;
    ok $code != 0 && $said =~ $pattern && $said =~ /nginx\.conf:\d+/, "nginx -t: $name" or diag $said;
}

$t->done;
