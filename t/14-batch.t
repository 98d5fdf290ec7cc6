# POST /events/batch: each event of an array, or of lines, has a verdict, an entry and a result of its own; what is
# charged; and every payload in Redis is the bytes that were sent, wherever nginx had put them.
use v5.36;
use Test::More;

use Digest::SHA qw(sha256_hex);
use Headgate::Credentials qw(json);
use Headgate::Edge;
use Headgate::Nginx;
use Headgate::Test;

my $t     = Headgate::Test->new;
my $redis = $t->redis(appendfsync => 'no');
my $batch = 'headgate_auth jwt api_key; headgate_require_scope events:write; headgate_publish batch;';
my $edge  = Headgate::Edge->start(
    $t, redis => $redis, redis_options => 'timeout=10s connect_timeout=1s',
    locations => join '', map { "location = /$_->[0] { $batch $_->[1] }" } ['batch', ''], ['small', 'headgate_event_max_size 100;'],
        ['many', 'headgate_batch_max_events 10000;'], ['tiny', 'client_body_buffer_size 16;'], ['spooled', 'client_body_buffer_size 1k;'],
        ['file', 'client_body_in_file_only clean;'], ['single', 'client_body_in_single_buffer on;'], ['plan', 'headgate_limit plan; headgate_limit_mode exact;'],
        ['plans', 'headgate_limit plan; headgate_limit rate=3r/h name=other key=$http_x_caller; headgate_limit_mode exact;'],
        ['cost', 'headgate_limit rate=10r/h name=cost cost=$http_x_cost; headgate_limit_mode exact;'],
        ['inflight', 'client_max_body_size 4k; headgate_event_max_size 4k; headgate_publish_inflight 4k;'],
);
my $key = $edge->add_key;

sub send_batch ($body, %args) {
    return $edge->publish(key => $args{key} // $key, body => $body, target => '/batch', %args);
}
sub lines ($body, %args) { return send_batch($body, %args, headers => ['Content-Type' => 'application/x-ndjson', ($args{headers} // [])->@*]) }
sub event (%members) { return json({ type => 'a.b', source => 's', payload => { n => 1 }, %members }) }
sub ids ($answer) { return map { $_->{id} } $answer->json->{results}->@* }

# -- 200 -----------------------------------------------------------------------------------------
for my $form (['an array' => send_batch('[' . event() . ', ' . event(payload => { n => 2 }) . ']')],
    ['lines' => lines(event() . "\n" . event(payload => { n => 2 }) . "\n")],
    ['lines with CR LF, a blank one, no last end' => lines(event() . "\r\n\r\n" . event(payload => { n => 2 }))],
    ['application/jsonl' => send_batch(event() . "\n" . event(payload => { n => 2 }), headers => ['Content-Type' => 'application/jsonl; charset=utf-8'])]) {
    my ($name, $answer) = @$form;
    is $answer->status, 200, "$name: 200" or diag $answer->body;
    like $answer->header('Content-Type'), qr{\Aapplication/json}, "$name: Content-Type";
    my $said = $answer->json;
    is_deeply [sort keys %$said], [qw(accepted rejected results)], "$name: members";
    is_deeply [@$said{qw(accepted rejected)}], [2, 0], "$name: counts";
    is_deeply [map { [sort keys %$_] } $said->{results}->@*], [([qw(id index)]) x 2], "$name: members of the results";
    is_deeply [map { $_->{index} } $said->{results}->@*], [0, 1], "$name: indexes";
    is_deeply [map { my $e = $redis->event($_); [@$e{qw(v org type source payload ord via)}] } ids($answer)],
        [map { ['1', 'org-test', 'a.b', 's', "{\"n\":$_}", '', 'batch'] } 1, 2], "$name: the entries in Redis";
}
my $traced = send_batch('[' . event(ordering_key => 'k') . ']', headers => [traceparent => '00-0123456789abcdef0123456789abcdef-0123456789abcdef-01']);
is_deeply [@{ $redis->event((ids($traced))[0]) }{qw(tp ord)}], ['00-0123456789abcdef0123456789abcdef-0123456789abcdef-01', 'k'], 'traceparent and ordering key';
lines(join "\n", map { event(ordering_key => 'row', payload => { n => $_ }) } 1 .. 50);
is_deeply [map { $_->{payload} } grep { $_->{ord} eq 'row' } $redis->events], [map { "{\"n\":$_}" } 1 .. 50], 'events of one ordering key stay in their order';

# -- some good, some bad -------------------------------------------------------------------------
{
    my $before = $redis->event_count;
    my $body   = '[' . join(',', event(), '{"type":"","source":7,"payload":{}}', '[]', event(type => 'webhook.x'), event(payload => { n => 9 })) . ']';
    my $answer = send_batch($body);
    is $answer->status, 200, 'a batch with some bad events is 200';
    my $said = $answer->json;
    is_deeply [@$said{qw(accepted rejected)}], [2, 3], 'counts';
    my @results = $said->{results}->@*;
    is_deeply [map { $_->{status} } @results], [undef, 422, 422, 422, undef], 'the status of each bad one';
    is_deeply [map { $_->{loc} } $results[1]{errors}->@*], [['body', 1, 'type'], ['body', 1, 'source']], 'where, with the index';
    is_deeply [map { $_->{loc} } $results[2]{errors}->@*], [['body', 2]], 'an event that is no object';
    ok length $results[$_]{error}, "error $_ says something" for 1 .. 3;
    is $redis->event_count, $before + 2, 'the good ones are stored';

    my $lines = lines(join "\n", event(), '{"type":', "\xff", '{"a":1,"a":2}', event());
    is_deeply [map { $_->{status} } $lines->json->{results}->@*], [undef, 400, 400, 400, undef], 'an invalid line is rejected alone';
    like $lines->json->{results}[1]{error}, qr/\AThe event is not valid JSON at byte 8: /, '... and told where';

    my $filled = length event(payload => { d => '' });
    my $sized  = sub ($bytes) { event(payload => { d => 'x' x ($bytes - $filled) }) };
    my $large  = send_batch('[' . join(',  ', map { $sized->($_) } 99, 100, 101) . ']', target => '/small');
    is_deeply [map { $_->{status} } $large->json->{results}->@*], [undef, undef, 413], 'an event over the maximum is rejected alone';
}

# -- nothing good ---------------------------------------------------------------------------------
my $before = $redis->event_count;
sub problem_is ($answer, $status, $name, %more) {
    is $answer->status, $status, "$status: $name" or diag $answer->body;
    is $answer->header('Content-Type'), 'application/problem+json', "$name: a problem";
    my $said = $answer->json;
    is $said->{status}, $status, "$name: its status";
    like $said->{detail}, $more{detail}, "$name: its detail" if $more{detail};
    is_deeply [@$said{qw(accepted rejected)}], [0, $more{rejected}], "$name: counts" if exists $more{rejected};
    return $said;
}
problem_is(send_batch('[]'), 422, 'an empty array', rejected => 0, detail => qr/no events/);
problem_is(send_batch(''), 400, 'no body');
problem_is(lines("\n \r\n"), 400, 'nothing but blank lines');
my $none = problem_is(send_batch('[{},1]'), 422, 'no event is valid', rejected => 2);
is_deeply [map { $_->{index} } $none->{results}->@*], [0, 1], 'with results';
problem_is(lines("x\ny"), 422, 'no line is valid', rejected => 2);
is_deeply problem_is(send_batch(event()), 422, 'an event and no array')->{errors}, [{ loc => ['body'], msg => 'must be an array' }], 'said as an error of the body';
problem_is(send_batch('[' . event() . ',]'), 400, 'a trailing comma', detail => qr/at byte \d+: expected a value/);
problem_is(send_batch('[' . event() . ',{"a":1,"a":2}]'), 400, 'a member twice', detail => qr/twice/);
problem_is(send_batch('[' . event()), 400, 'half an array');
problem_is(send_batch("\xef\xbb\xbf[]"), 400, 'a BOM');
problem_is(send_batch(event() . "\n" . event()), 400, 'lines that are called application/json');
problem_is(send_batch('[' . join(',', (event()) x 1001) . ']'), 413, '1,001 events', detail => qr/1000 events/);
problem_is(lines(join "\n", (event()) x 1001), 413, '1,001 lines');
problem_is(send_batch('[' . join(',', (event()) x 10_001) . ']', target => '/many'), 413, '10,001 events where 10,000 are allowed');
problem_is(send_batch('[' . event() . ']', headers => ['Content-Type' => 'text/plain']), 415, 'text/plain');
problem_is(lines(event(), target => '/events'), 415, 'lines where one event is expected');
problem_is($edge->nginx->request('GET', '/batch', headers => ['X-API-Key' => $key]), 405, 'GET');
problem_is(send_batch('[' . event() . ']', headers => ['Idempotency-Key' => 'a b']), 400, 'an Idempotency-Key with a space');
is $redis->event_count, $before, 'of all these nothing is stored';

# -- the largest -----------------------------------------------------------------------------------
{
    $redis->command('DEL', $redis->streams);
    my $answer = send_batch('[' . join(',', map { event(payload => { n => $_ }) } 1 .. 10_000) . ']', target => '/many');
    is $answer->status, 200, '10,000 events';
    is $answer->json->{accepted}, 10_000, '... are accepted';
    my %stored = map { $_->{id} => $_->{payload} } $redis->events;
    is_deeply [map { $stored{$_} } ids($answer)], [map { "{\"n\":$_}" } 1 .. 10_000], '... each under its own id';
    $redis->command('DEL', $redis->streams);
    is send_batch('[' . join(',', (event()) x 1000) . ']')->json->{accepted}, 1000, '1,000 events without a word in the configuration';
    $redis->command('DEL', $redis->streams);
}

# -- what is charged ---------------------------------------------------------------------------------
{
    my $poor = $edge->add_key(limits => '5r/h');
    my $ask  = sub ($events, %args) { send_batch('[' . join(',', (event()) x $events) . ']', key => $poor, target => '/plan', %args) };
    my $three = $ask->(3);
    is $three->status, 200, 'three of five units';
    is $three->header('RateLimit'), $three->header('RateLimit') =~ /\A("hour";r=2;t=\d+)\z/ ? $1 : 'one window with 2 left', 'each event is a unit, and the headers say so once';
    my $more = $ask->(3);
    is $more->status, 429, 'three of two units';
    like $more->header('Retry-After'), qr/\A\d+\z/, '... with Retry-After';
    is $more->header('X-RateLimit-Remaining'), 1, '... costs the one unit that was charged before the body was read';
    is $redis->event_count, 3, '... and stores nothing';
    is send_batch('[{},' . event() . ',{}]', key => $poor, target => '/plan')->status, 200, 'bad events cost nothing';
    problem_is($ask->(1), 429, 'nothing is left');
    my $rich = $edge->add_key(limits => '5r/h');    # one of them is spent by each batch that is refused
    my $never = send_batch('[' . join(',', (event()) x 7) . ']', key => $rich, target => '/plan');
    is $never->status, 429, 'more events than the burst';
    is $never->header('Retry-After'), undef, '... is not worth waiting for';

    my $six = send_batch('[' . join(',', (event()) x 6) . ']', key => $rich, target => '/plan');
    is $six->status, 429, 'one event more than the burst';
    is $six->header('Retry-After'), undef, '... never fits either, though what is behind its first event would';

    # Sent again, the batch is charged for its first event once more: all must fit by then.
    my $again = $edge->add_key(limits => '5r/h');    # a unit in 720 s
    my $retry = sub ($events) { send_batch('[' . join(',', (event()) x $events) . ']', key => $again, target => '/plan')->header('Retry-After') };
    is $retry->(3), undef, 'three of five pass';
    my $seconds = $retry->(4);
    ok $seconds > 2 * 720 && $seconds <= 3 * 720, 'with one unit left, four events need three more' or diag $seconds;

    # The second limiter refuses: what the first had charged for the rest is returned.
    my $ends = $edge->add_key(limits => '10r/h');
    my $with = sub ($events) { send_batch('[' . join(',', (event()) x $events) . ']', key => $ends, target => '/plans', headers => ['X-Caller' => 'c']) };
    is $with->(5)->status, 429, 'the second limit refuses';
    my $left = $with->(1);
    is $left->status, 200, '... one unit of it was spent, one more passes';
    # What is returned is worth a little less with each moment that it was away: 7 when that moment has not yet passed again.
    like $left->header('RateLimit'), qr/\A"hour";r=[78];t=\d+, "hour";r=1;t=\d+\z/, '... and of the first limit the other four have come back';

    my $dear = send_batch('[' . join(',', (event()) x 3) . ']', target => '/cost', headers => ['X-Cost' => 3]);
    is $dear->header('X-RateLimit-Remaining'), 1, 'a cost is charged for each event';
    $redis->command('DEL', $redis->streams);
}

# -- Redis refuses some ---------------------------------------------------------------------------
{
    my $where = send_batch('[' . join(',', map { event(ordering_key => "k$_") } 1 .. 40) . ']');
    my %stream_of;    # by ordering key
    for my $stream ($redis->streams) { $stream_of{ $_->[1]{ord} } = $stream for $redis->client->entries($stream) }
    my $broken = $stream_of{k1};
    $redis->command('DEL', $redis->streams);
    $redis->command('SET', $broken, 'no stream');
    my $answer = send_batch('[' . join(',', map { event(ordering_key => "k$_") } 1 .. 40) . ']');
    is $answer->status, 200, 'one shard of Redis refuses';
    my @expected = map { $stream_of{"k$_"} eq $broken ? 503 : undef } 1 .. 40;
    is_deeply [map { $_->{status} } $answer->json->{results}->@*], \@expected, '... and its events say so';
    is $answer->json->{rejected}, (grep { $_ } @expected), '... and are counted as rejected';
    my $all = send_batch('[' . join(',', (event(ordering_key => 'k1')) x 3) . ']');
    problem_is($all, 503, 'none was stored', rejected => 3);
    like $all->header('Retry-After'), qr/\A\d+\z/, '... with Retry-After';
    problem_is(send_batch('[' . event(ordering_key => 'k1') . ',{}]'), 503, 'none was stored and one was bad', rejected => 2);
    $redis->command('DEL', $broken, $redis->streams);
}

# -- Redis is away, or too much is under way ----------------------------------------------------------
{
    my $unlimited = $edge->token;
    $redis->process->signal('STOP');
    my $body  = '[' . event(payload => { d => 'x' x 2900 }) . ']';
    my $first = $edge->nginx->connect;
    $first->send_bytes(Headgate::Http->format_request('POST', '/inflight', headers => [$edge->headers(token => $unlimited)], body => $body));
    $t->wait_for('a batch to be in flight', sub { $edge->status->{published}{inflight_bytes} >= 2900 });
    my $second = $edge->publish(token => $unlimited, target => '/inflight', body => $body);
    $redis->process->signal('CONT');
    problem_is($second, 503, 'more in flight than allowed');
    is $first->read_response->status, 200, 'the one in flight is answered when Redis goes on';
    is $edge->status->{published}{inflight_bytes}, 0, 'and nothing is in flight';
    $redis->command('DEL', $redis->streams);
}

# -- bytes ---------------------------------------------------------------------------------------------
srand 20240301;
sub payload_of ($bytes) {
    my @pieces = ('a' .. 'z', "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80", '\\n', '\\"', '\\u00e4', '\\\\', ' ', '{', '}', ',', '[', ']');
    my $text = '{"d":"';
    $text .= $pieces[rand @pieces] while length $text < $bytes;
    return "$text\"}";
}
my $place = 0;
sub body_of ($payload, $space) {
    my @members = ('"type":"bytes.sent"', '"source":"bytes"', "\"payload\" :\t$payload ");
    push @members, shift @members for 1 .. $place++ % 3;
    return '{' . join($space . ',' . $space, @members) . '}';
}
my ($published, $copied) = @{ $edge->status->{published} }{qw(payload_bytes payload_bytes_copied)};
my $sent_bytes = 0;
for my $sizes ([map { 2 + int rand 200 } 1 .. 60], [(1000) x 20], [100, 70_000, 10, 30_000], [262_144, 5, 5, 32_768]) {
    my @payloads = map { payload_of($_) } @$sizes;
    my $total    = 0;
    $total += $_ for @$sizes;
    my %bodies = (
        array => [[], '[' . join(',', map { body_of($_, "\n ") } @payloads) . "]\n"],
        lines => [['Content-Type' => 'application/x-ndjson'], join "\r\n", map { body_of($_, ' ') } @payloads],
    );
    my %ways = (
        whole => {}, 'pieces of 1000' => { slice => 1000 }, 'chunks of 4096' => { chunked => 4096 }, 'chunks in slices' => { chunked => 333, slice => 7001 },
        'to a tiny buffer' => { target => '/tiny', slice => 5000 }, spooled => { target => '/spooled' },
        'spooled, chunked' => { target => '/spooled', chunked => 1500, slice => 9000 }, 'in a file' => { target => '/file' },
        'in one buffer' => { target => '/single', slice => 30_000 },
        $total < 10_000 ? ('one byte at a time' => { slice => 1 }, 'chunks of one byte' => { chunked => 1, target => '/tiny' }) : (),
    );
    my $check = sub ($answer, $name) {
        is $answer->status, 200, $name or return diag substr $answer->body, 0, 500;
        my %stored = map { $_->{id} => sha256_hex($_->{payload}) } $redis->events;
        is_deeply [map { $stored{$_} } ids($answer)], [map { sha256_hex($_) } @payloads], "$name: as sent";
        $sent_bytes += length for @payloads;
        $redis->command('DEL', $redis->streams);
    };
    for my $form (sort keys %bodies) {
        my ($headers, $body) = $bodies{$form}->@*;
        for my $way (sort keys %ways) {
            $check->(send_batch($body, headers => [@$headers], $ways{$way}->%*), @payloads . " events in $total bytes, $form, $way");
        }
        my $file = $t->write_file('body.json', $body);
        my $type = $headers->[1] // 'application/json';
        for my $target ('/batch', '/spooled') {
            my $said = `curl -s -S --http2-prior-knowledge -H 'Content-Type: $type' -H 'X-API-Key: $key' --data-binary \@$file -w ' %{http_code} %{http_version}' http://127.0.0.1:@{[ $edge->nginx->http2_port ]}$target 2>&1`;
            my ($answer, $status) = $said =~ /\A(\{.*\}) (\d+) 2\z/s or do { fail 'HTTP/2'; diag $said; next };
            $check->(bless({ status => $status, body => $answer, headers => [] }, 'Headgate::Http::Response'), @payloads . " events in $total bytes, $form, over HTTP/2 to $target");
        }
    }
}
my $after = $edge->status->{published};
is $after->{payload_bytes} - $published, $sent_bytes, 'payload_bytes counted';
is $after->{payload_bytes_copied}, 0, 'payload_bytes_copied';
is $after->{inflight_bytes}, 0, 'nothing is in flight';

# -- Redis goes away in the middle -------------------------------------------------------------------
$redis->crash;
problem_is($edge->publish(token => $edge->token, target => '/batch', body => '[' . event() . ']'), 503, 'Redis is away');
$redis->restart;
$edge->wait_until_ready;
$t->wait_for('batches to work again', sub { send_batch('[' . event() . ']')->status == 200 });
pass 'and 200 again when Redis is back';

# -- nginx -t -----------------------------------------------------------------------------------------
{
    my $module = $ENV{HEADGATE_MODULE} // $t->root . '/build/ngx_http_headgate_module.so';
    $t->write_file('etc/token.key', ('0123456789abcdef' x 4) . "\n");
    chmod 0600, $t->path('etc/token.key');
    my $test = sub ($location) {
        my $conf = $t->write_file('conf/nginx.conf', "load_module $module;\npid @{[ $t->path('conf/pid') ]};\nevents {}\nhttp {\naccess_log off;\nheadgate_zone z:1m;\nheadgate_redis 127.0.0.1:1;\n"
                . "headgate_jwt_key_file @{[ $t->path('etc/token.key') ]} alg=HS256;\nserver {\nlisten 127.0.0.1:@{[ $t->port ]};\nlocation = /b { headgate_auth jwt; $location }\n}\n}\n");
        return `@{[ Headgate::Nginx->executable ]} -t -p @{[ $t->dir('conf') ]} -e @{[ $t->path('conf/error.log') ]} -c $conf 2>&1`;
    };
    like $test->('headgate_publish batch;'), qr/test is successful/, 'the defaults fit a batch';
    my %wrong = (
        'headgate_publish batch; client_max_body_size 0;' => qr/"client_max_body_size" bounds a batch.*conf:11/,
        'headgate_publish batch; client_max_body_size 65m;' => qr/"client_max_body_size" bounds a batch.*67108864 .*conf:11/,
        'headgate_publish batch; headgate_event_max_size 2m;' => qr/"client_max_body_size" 1048576 is less/,
        'headgate_publish batches;' => qr/invalid value "batches"/,
        'headgate_publish batch; headgate_batch_max_events 0;' => qr/"headgate_batch_max_events" directive must be at least 1/,
        'headgate_publish batch; headgate_publish_backlog 0;' => qr/"headgate_publish_backlog" directive must be at least 1/,
        'headgate_publish batch; headgate_idempotency_ttl 0;' => qr/"headgate_idempotency_ttl" directive must be longer than 0/,
    );
    like $test->($_), $wrong{$_}, "nginx -t: $_" for sort keys %wrong;
}

$t->done;
