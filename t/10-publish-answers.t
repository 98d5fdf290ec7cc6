# Every answer of POST /events, through a real nginx: status, headers and body.
use v5.36;
use Test::More;

use Headgate::Credentials qw(json);
use Headgate::Edge;
use Headgate::Test;

my $t = Headgate::Test->new;
my $edge = Headgate::Edge->start(
    $t,
    redis_options => 'timeout=10s connect_timeout=1s',
    limit     => 'headgate_limit plan; headgate_limit_mode exact;',
    locations => 'location = /small { headgate_auth jwt api_key; headgate_require_scope events:write;'
        . ' headgate_event_max_size 1k; headgate_publish event; }'
        . ' location = /inflight { headgate_auth jwt; headgate_event_max_size 4k; headgate_publish_inflight 4k; headgate_publish event; }'
        . ' location = /tokens { headgate_auth jwt; headgate_publish event; }',
);
my $redis = $edge->redis;
my $key   = $edge->add_key;
my $now   = time;
my $unlimited = $edge->token(claims => { plan => 'unlimited' });

# One problem+json answer, whole.
sub problem_is ($answer, $status, $name, %more) {
    subtest $name => sub {
        is $answer->status, $status, "status $status" or diag $answer->body;
        is $answer->header('Content-Type'), 'application/problem+json', 'Content-Type';
        my $body = $answer->json;
        is $body->{status}, $status, 'member status';
        is $body->{success}, JSON::PP::false, 'member success';
        ok length $body->{detail}, 'member detail';
        is $body->{error}, $body->{detail}, 'member error';
        ok length $body->{title}, 'member title';
        ok length $body->{type}, 'member type';
        for my $header (sort keys(($more{headers} // {})->%*)) {
            my $expected = $more{headers}{$header};
            my $value    = $answer->header($header);
            defined $expected ? like($value // '', $expected, "header $header") : is($value, undef, "no header $header");
        }
        like $body->{detail}, $more{detail}, 'detail says what' if $more{detail};
        is_deeply [map { $_->{loc} } ($body->{errors} // [])->@*], $more{locs}, 'errors name every member' if $more{locs};
        ok !(grep { !length $_->{msg} } ($body->{errors} // [])->@*), 'each with a message' if $more{locs};
    };
}

# -- 201 -----------------------------------------------------------------------------------------
for my $credential ([key => $key], [token => $unlimited]) {
    my $answer = $edge->publish(@$credential, body => Headgate::Edge::event_body(payload => { order => 7 }));
    is $answer->status, 201, "201 with a $credential->[0]" or diag $answer->body;
    like $answer->header('Content-Type'), qr{\Aapplication/json}, 'Content-Type';
    my $body = $answer->json;
    is_deeply [sort keys %$body], [qw(id status timestamp)], 'members';
    is $body->{status}, 'pending', 'status pending';
    like $body->{id}, qr/\A[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\z/, 'id is a UUIDv7';
    like $body->{timestamp}, qr/\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\z/, 'timestamp is RFC 3339 UTC';
    my $stored = $redis->event($body->{id});
    is_deeply [@$stored{qw(v org type source payload ord via)}], ['1', 'org-test', 'order.created', 'test', '{"order":7}', '', 'api'],
        'the entry in Redis';
    is $stored->{key}, $edge->key_id($key), 'with the key id' if $credential->[0] eq 'key';
    ok abs($stored->{at} / 1000 - time) < 60, 'at is in ms';
}
is $edge->publish(key => $key, headers => ['Content-Type' => 'application/json; charset=utf-8'])->status, 201, 'a charset is no obstacle';
is $edge->publish(headers => [Authorization => "bearer $key"])->status, 201, 'an API key as bearer, in any case';

# -- 400 -----------------------------------------------------------------------------------------
my %bad_json = (
    'no body' => '', 'white space only' => " \n", 'not JSON' => 'hello', 'half an object' => '{"type":"a"',
    'trailing bytes' => '{} x', 'a BOM' => "\xef\xbb\xbf{}", 'a lone surrogate' => '{"type":"\ud800","source":"s","payload":{}}',
    'invalid UTF-8' => qq({"type":"a","source":"\xff","payload":{}}), 'a control character' => qq({"type":"a\x01","source":"s","payload":{}}),
    'a member twice' => '{"type":"a","source":"s","payload":{},"type":"b"}',
    'a member twice, once escaped' => '{"type":"a","source":"s","payload":{},"\u0074ype":"b"}',
    'depth 65' => '{"type":"a","source":"s","payload":' . '{"a":' x 64 . '1' . '}' x 64 . '}',
    'a leading zero' => '{"type":"a","source":"s","payload":{"n":01}}',
);
for my $name (sort keys %bad_json) {
    problem_is($edge->publish(key => $key, body => $bad_json{$name}), 400, "400: $name");
}
problem_is($edge->publish(key => $key, token => $edge->token), 400, '400: token and API key together');
problem_is($edge->publish(headers => ['X-API-Key' => $key, 'X-API-Key' => $key]), 400, '400: two API keys');
is $edge->publish(headers => [Authorization => 'Bearer ' . $edge->token, Authorization => 'Bearer ' . $edge->token])->status,
    400, '400: two Authorization headers (nginx refuses them itself)';

# -- 401 -----------------------------------------------------------------------------------------
problem_is($edge->publish, 401, '401: no credential', headers => { 'WWW-Authenticate' => qr/\ABearer realm="headgate"\z/ });
problem_is($edge->publish(headers => [Authorization => 'Basic dTpw']), 401, '401: Basic', headers => { 'WWW-Authenticate' => qr/\ABearer realm="headgate"\z/ });
problem_is(
    $edge->publish(token => $edge->token(claims => { exp => $now - 1 })), 401, '401: expired token',
    detail => qr/\AToken expired\z/, headers => { 'WWW-Authenticate' => qr/error="invalid_token"/ }
);
my $unknown = Headgate::Credentials::make_api_key();
for my $case (['an unknown API key' => $unknown], ['a mistyped API key' => substr($key, 0, -1) . '!'], ['a short API key' => 'hg_x']) {
    problem_is($edge->publish(key => $case->[1]), 401, "401: $case->[0]", headers => { 'WWW-Authenticate' => qr/error="invalid_token"/ });
}
problem_is($edge->publish(key => $edge->add_key(active => 0)), 401, '401: a revoked API key');
problem_is($edge->publish(key => $edge->add_key(expires_at => ($now - 1) * 1000)), 401, '401: an expired API key');

# -- 403 -----------------------------------------------------------------------------------------
problem_is(
    $edge->publish(key => $edge->add_key(scopes => 'events:read inbox:read')), 403, '403: scope',
    headers => { 'WWW-Authenticate' => qr/error="insufficient_scope"/ }
);
problem_is($edge->publish(key => $edge->add_key(allowed_ips => '10.1.0.0/16 2001:db8::/32')), 403, '403: address');
is $edge->publish(key => $edge->add_key(allowed_ips => '127.0.0.0/8'))->status, 201, 'an address within allowed_ips';
is $edge->publish(key => $edge->add_key(scopes => $_))->status, 201, "scope $_ is enough" for 'admin', 'events:*', '*:write', 'a:b events:write';
problem_is($edge->publish(key => $edge->add_key(plan => 'platinum')), 403, '403: a plan that nobody knows');

# -- 405, 413, 415 -------------------------------------------------------------------------------
for my $method (qw(GET PUT DELETE PATCH)) {
    problem_is($edge->nginx->request($method, '/events', headers => ['X-API-Key' => $key]), 405, "405: $method", headers => { Allow => qr/\APOST\z/ });
}
problem_is($edge->nginx->request('GET', '/events'), 401, 'authentication comes before the method');
problem_is($edge->publish(key => $key, headers => ['Content-Type' => $_]), 415, "415: $_") for 'text/plain', 'application/xml', 'application/jsonx';
problem_is($edge->nginx->request('POST', '/events', headers => ['X-API-Key' => $key], body => '{}'), 415, '415: no Content-Type');
problem_is($edge->publish(key => $key, headers => ['Content-Encoding' => 'gzip']), 415, '415: Content-Encoding');
my $big = Headgate::Edge::event_body(payload => { data => 'x' x 1000 });
problem_is($edge->publish(key => $key, target => '/small', body => $big), 413, '413: Content-Length says so');
problem_is($edge->publish(key => $key, target => '/small', body => $big, chunked => 100), 413, '413: noticed while it comes in chunks');
my $pad = 1024 - length Headgate::Edge::event_body(payload => { data => '' });
is $edge->publish(key => $key, target => '/small', body => Headgate::Edge::event_body(payload => { data => 'x' x $pad }))->status, 201, 'exactly the maximum is accepted';
problem_is($edge->publish(key => $key, target => '/small', body => Headgate::Edge::event_body(payload => { data => 'x' x ($pad + 1) })), 413, '413: one byte more');

# -- 422 -----------------------------------------------------------------------------------------
my @shapes = (
    ['an array' => '[]', [['body']]],
    ['a string' => '"x"', [['body']]],
    ['nothing in it' => '{}', [['body', 'type'], ['body', 'source'], ['body', 'payload']]],
    ['wrong kinds' => '{"type":1,"source":null,"payload":[]}', [['body', 'type'], ['body', 'source'], ['body', 'payload']]],
    ['empty strings' => '{"type":"","source":"","payload":{}}', [['body', 'type'], ['body', 'source']]],
    ['a type with a space' => '{"type":"a b","source":"s","payload":{}}', [['body', 'type']]],
    ['a type of 129 bytes' => json({ type => 'a' x 129, source => 's', payload => {} }), [['body', 'type']]],
    ['a reserved type' => '{"type":"webhook.disabled","source":"s","payload":{}}', [['body', 'type']]],
    ['a source of 257 bytes' => json({ type => 'a', source => 's' x 257, payload => {} }), [['body', 'source']]],
    ['a control character in source' => '{"type":"a","source":"s\u0000","payload":{}}', [['body', 'source']]],
    ['a wrong ordering key' => '{"type":"a","source":"s","payload":{},"ordering_key":7}', [['body', 'ordering_key']]],
    ['an ordering key of 257 bytes' => json({ type => 'a', source => 's', payload => {}, ordering_key => 'k' x 257 }), [['body', 'ordering_key']]],
);
problem_is($edge->publish(key => $key, body => $_->[1]), 422, "422: $_->[0]", locs => $_->[2]) for @shapes;
for my $good (
    json({ type => 'a' x 128, source => 's' x 256, payload => {}, ordering_key => 'k' x 256 }),
    json({ type => 'A_z.0:9-', source => "\x{e4}\x{1F600}", payload => {}, extra => [1, { a => undef }] }),
) {
    is $edge->publish(key => $key, body => $good)->status, 201, 'the bounds themselves are accepted';
}
my $escaped = $edge->publish(key => $key, body => '{"typ\u0065":"a.\u0062","source":"\"\u00e4\ud83d\ude00\/","payload" : {"\u0061" :1 } ,"ordering_key":"k\u0031"}');
is $escaped->status, 201, 'escapes in names and strings';
my $entry = $redis->event($escaped->json->{id});
is_deeply [@$entry{qw(type source payload ord)}], ['a.b', "\"\xc3\xa4\xf0\x9f\x98\x80/", '{"\u0061" :1 }', 'k1'],
    'strings are unescaped, the payload is left as it came';

# -- 429 -----------------------------------------------------------------------------------------
{
    my $poor = $edge->add_key(plan => 'free', limits => '2r/m+5r/h');
    my $first = $edge->publish(key => $poor);
    is $first->status, 201, 'the first of two';
    is $first->header('RateLimit-Policy'), '"minute";q=2;w=60, "hour";q=5;w=3600', 'RateLimit-Policy of every window';
    like $first->header('RateLimit'), qr/\A"minute";r=1;t=\d+, "hour";r=4;t=\d+\z/, 'RateLimit of every window';
    is $first->header('X-RateLimit-Limit'), 2, 'X-RateLimit-Limit of the tightest';
    is $first->header('X-RateLimit-Remaining'), 1, 'X-RateLimit-Remaining';
    like $first->header('X-RateLimit-Reset'), qr/\A\d+\z/, 'X-RateLimit-Reset';
    is $edge->publish(key => $poor)->status, 201, 'the second of two';
    my $before = $redis->event_count;
    my $third  = $edge->publish(key => $poor);
    problem_is($third, 429, '429: over its quota', headers => { 'Retry-After' => qr/\A(?:[1-9]|[12]\d|30)\z/, 'RateLimit' => qr/"minute";r=0/, 'X-RateLimit-Remaining' => qr/\A0\z/ });
    is $third->json->{type}, 'https://iana.org/assignments/http-problem-types#quota-exceeded', 'type of RFC 9457';
    is $redis->event_count, $before, 'and nothing is stored';
    problem_is($edge->publish(key => $poor, body => 'x'), 429, 'limits come before the body is judged');
    is $edge->publish(key => $key)->status, 201, 'another key is not affected';
}

# -- 503 -----------------------------------------------------------------------------------------
{
    my $event = Headgate::Edge::event_body(payload => { data => 'x' x 3000 });
    $redis->process->signal('STOP');
    my $first = $edge->nginx->connect;
    $first->send_bytes(Headgate::Http->format_request('POST', '/inflight', headers => [$edge->headers(token => $unlimited)], body => $event));
    $t->wait_for('an event to be in flight', sub { $edge->status->{published}{inflight_bytes} >= 3000 });
    my $second = $edge->publish(token => $unlimited, target => '/inflight', body => $event);
    $redis->process->signal('CONT');
    problem_is($second, 503, '503: more in flight than allowed', headers => { 'Retry-After' => qr/\A\d+\z/ });
    is $first->read_response->status, 201, 'the one in flight is answered when Redis goes on';
}
$redis->crash;
problem_is($edge->publish(token => $unlimited, target => '/tokens'), 503, '503: Redis is away', headers => { 'Retry-After' => qr/\A\d+\z/ });
problem_is($edge->publish(key => Headgate::Credentials::make_api_key()), 503, '503, not 401: an unknown key while Redis is away');
$redis->restart;
$edge->wait_until_ready;
$t->wait_for('publishing to work again', sub { $edge->publish(key => $key)->status == 201 });
pass 'and 201 again when Redis is back';

# A Redis that has lost its memory must not turn customers away as strangers.
$redis->command('FLUSHALL');
my $stranger = $t->wait_for('the edge to notice', sub { my $a = $edge->publish(key => Headgate::Credentials::make_api_key()); $a->status == 503 ? $a : undef }, 40);
problem_is($stranger, 503, '503: keys are not projected');
$edge->project(fingerprint_of => 'another pepper');
problem_is($edge->publish(key => Headgate::Credentials::make_api_key()), 503, '503: projected with another pepper');

$t->done;
