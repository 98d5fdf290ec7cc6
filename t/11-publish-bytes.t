# What is in Redis is what was sent, byte for byte, and the module copied none of it: bodies from the
# smallest payload to 256 KiB, sent whole, in pieces, one byte at a time, chunked, over HTTP/2, after
# Expect: 100-continue, and spooled to a file; over TCP and over a unix socket to Redis.
use v5.36;
use Test::More;

use Digest::SHA qw(sha256_hex);
use Headgate::Edge;
use Headgate::Test;

my $t = Headgate::Test->new;
my $redis = $t->redis(appendfsync => 'no');
my @edges = (
    [tcp  => '127.0.0.1:' . $redis->port],
    [unix => 'unix:' . $redis->path],
);
my @sizes = (2, 3, 100, 1000, 1024, 4096, 16_384, 32_768, 65_536, 131_072, 262_144);
my ($sent_events, $sent_bytes) = (0, 0);

# A payload of exactly that many bytes that is no pattern: escapes, UTF-8 and white space wherever.
srand 20240229;
sub payload_of ($bytes) {
    return '{}'          if $bytes == 2;
    return '{ }'         if $bytes == 3;
    return '{"a":1}' . ' ' x 0 if $bytes < 10;
    my $text = '{"d":"';
    my @pieces = ('a' .. 'z', "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80", '\\n', '\\"', '\\u00e4', '\\\\', ' ', '{', '}', ',');
    while (length($text) < $bytes - 20) { $text .= $pieces[rand @pieces] }
    $text .= 'x' x ($bytes - 2 - length $text);
    return "$text\"}";
}

# The payload is placed first, in the middle or last, with space around it.
my $place = 0;
sub body_of ($payload) {
    my @members = ('"type":"bytes.sent"', '"source":"bytes"', "\"payload\" :\t$payload ");
    push @members, shift @members for 1 .. $place++ % 3;
    return '{' . join(' , ', @members) . "}\n";
}

for my $case (@edges) {
    my ($kind, $address) = @$case;
    my $edge = Headgate::Edge->start(
        $t, redis => $redis, redis_address => $address,
        locations => join('', map {
            "location = /$_->[0] { headgate_auth api_key; $_->[1]; headgate_publish event; }"
        } ['tiny', 'client_body_buffer_size 16'], ['spooled', 'client_body_buffer_size 1k'], ['file', 'client_body_in_file_only clean'],
          ['single', 'client_body_in_single_buffer on']),
    );
    my $key = $edge->add_key;
    my $check = sub ($answer, $payload, $name) {
        if (!is $answer->status, 201, "$kind: $name") { diag $answer->body; return }
        $sent_events++;
        $sent_bytes += length $payload;
        my $stored = $redis->event($answer->json->{id});
        is sha256_hex($stored->{payload} // ''), sha256_hex($payload), "$kind: $name, as sent";
        $redis->command('DEL', $redis->streams);
    };

    for my $size (@sizes) {
        my $payload = payload_of($size);
        my %ways    = (
            whole             => {},
            'pieces of 1000'  => { slice => 1000 },
            'chunks of 4096'  => { chunked => 4096 },
            'chunks in slices' => { chunked => 333, slice => 7001 },
            'to a tiny buffer' => { target => '/tiny', slice => 5000 },
            'spooled'          => { target => '/spooled' },
            'spooled, chunked' => { target => '/spooled', chunked => 1500, slice => 9000 },
            'in a file'        => { target => '/file' },
            'in one buffer'    => { target => '/single', slice => 30_000 },
        );
        for my $way (sort keys %ways) {
            $check->($edge->publish(key => $key, body => body_of($payload), $ways{$way}->%*), $payload, "$size bytes, $way");
        }
        if ($size <= 1024) {
            $check->($edge->publish(key => $key, body => body_of($payload), slice => 1), $payload, "$size bytes, one at a time");
            $check->($edge->publish(key => $key, body => body_of($payload), chunked => 1, target => '/tiny'), $payload, "$size bytes, chunks of 1");
        }

        my $file = $t->write_file('body.json', body_of($payload));
        for my $target ('/events', '/spooled') {
            my $said = `curl -s -S --http2-prior-knowledge -H 'Content-Type: application/json' -H 'X-API-Key: $key' --data-binary \@$file -w ' %{http_code} %{http_version}' http://127.0.0.1:@{[ $edge->nginx->http2_port ]}$target 2>&1`;
            my ($body, $status) = $said =~ /\A(\{.*\}) (\d+) 2\z/s or do { fail "$kind: HTTP/2"; diag $said; next };
            $check->(bless({ status => $status, body => $body, headers => [] }, 'Headgate::Http::Response'), $payload, "$size bytes over HTTP/2 to $target");
        }
    }

    my $payload = payload_of(5000);
    my $http    = $edge->nginx->connect;
    my $bytes   = Headgate::Http->format_request('POST', '/events', headers => [$edge->headers(key => $key), Expect => '100-continue'], body => body_of($payload));
    my $split   = 4 + index $bytes, "\r\n\r\n";
    $http->send_bytes(substr $bytes, 0, $split);
    ok IO::Select->new($http->socket)->can_read(10), "$kind: 100 Continue arrives before the body is sent";
    $http->send_bytes(substr $bytes, $split);
    $check->($http->read_response, $payload, 'after 100-continue');

    my @payloads = map { payload_of(10 + int rand 3000) } 1 .. 20;
    $http->send_bytes(join '', map { Headgate::Http->format_request('POST', '/events', headers => [$edge->headers(key => $key)], body => body_of($_)) } @payloads);
    my @answers = map { $http->read_response } @payloads;
    is_deeply [map { $_->status } @answers], [(201) x 20], "$kind: twenty pipelined requests";
    my %stored = map { $_->{id} => $_->{payload} } $redis->events;
    is_deeply [map { $stored{ $_->json->{id} } } @answers], \@payloads, "$kind: each with its own bytes";
    $sent_events += 20;
    $sent_bytes += length for @payloads;
    $redis->command('DEL', $redis->streams);

    my $published = $edge->status->{published};
    is $published->{payload_bytes_copied}, 0, "$kind: payload_bytes_copied";
    is $published->{events}, $sent_events, "$kind: events counted";
    is $published->{payload_bytes}, $sent_bytes, "$kind: payload_bytes counted";
    is $published->{inflight_bytes}, 0, "$kind: nothing in flight";
    ($sent_events, $sent_bytes) = (0, 0);
    is $edge->nginx->process->stop, undef, "$kind: nginx stops";
}

$t->done;
