# Clients that go away at every stage of a publish, a thousand at each, while others publish all the
# time, with the sanitized module: at the headers, in mid-body, with the XADD queued, with it half
# written (Redis stalls, the socket is full), and with it written and the reply awaited. Nobody's
# bytes are ever mixed with another's, and the same Redis connection serves the next request right.
#
# The request's own buffers are what is written to Redis, so a request whose client has gone must
# keep its memory until the last byte has left.
use v5.36;
use Test::More;

use Digest::SHA qw(sha256_hex);
use JSON::PP ();
use POSIX ();

use Headgate::Edge;
use Headgate::Load;
use Headgate::Test;

my $ABORTS = $ENV{HEADGATE_TEST_ABORTS} // 1000;

my $t     = Headgate::Test->new;
my $redis = $t->redis(appendfsync => 'no');
my $proxy = $t->proxy(to_port => $redis->port);
# (That build is for Debian's nginx.)
my $asan  = !$ENV{HEADGATE_NGINX} && -e $t->root . '/build/asan/ngx_http_headgate_module.so' || $ENV{HEADGATE_ASAN_MODULE};
diag 'without AddressSanitizer: build/asan is not there' if !$asan;
my $edge = Headgate::Edge->start(
    $t, redis => $redis, redis_address => '127.0.0.1:' . $proxy->port, redis_options => 'timeout=30s connect_timeout=5s',
    asan => $asan ? 1 : 0, locations => 'location = /connections { stub_status; access_log off; }'
        . ' location = /batch { headgate_auth jwt; headgate_publish batch; }'
        . ' location = /charged { headgate_auth jwt; headgate_limit plan default_plan=unlimited; headgate_publish batch; }',
    http => 'client_body_buffer_size 48k; keepalive_requests 1000000;',
);
# A token needs nothing from Redis: while that stalls, requests still come as far as their XADD.
my $token = $edge->token;
my $port = $edge->nginx->port;

# A payload that proves its own integrity: the digest of its filling goes with it.
sub body_of ($bytes) {
    my $fill = substr(join('', map { chr(97 + rand 26) } 1 .. 61) x (1 + $bytes / 61), 0, $bytes);
    return '{"type":"abort.tested","source":"t","payload":{"fill":"' . $fill . '","sha256":"' . sha256_hex($fill) . '"}}';
}
sub request_of ($bytes) {
    return Headgate::Http->format_request('POST', '/events', headers => [$edge->headers(token => $token)], body => body_of($bytes));
}
# The same bytes as a batch of up to six events, every second one with an Idempotency-Key.
sub batch_of ($bytes, $target = '/batch') {
    my $count = 1 + int rand 6;
    my $body  = '[' . join(',', map { body_of(int $bytes / $count) } 1 .. $count) . ']';
    my @key   = rand() < 0.5 ? ('Idempotency-Key' => rand) : ();
    return Headgate::Http->format_request('POST', $target, headers => [$edge->headers(token => $token), @key], body => $body);
}
# Every second one is a batch.
my $requests_made = 0;
sub any_of ($bytes) { return $requests_made++ % 2 ? batch_of($bytes) : request_of($bytes) }

my $checked = 0;
sub check_stored ($stage) {
    my ($broken, $known) = (0, 0);
    for my $event ($redis->events) {
        my ($fill, $digest) = $event->{payload} =~ /\A\{"fill":"([a-z]*)","sha256":"([0-9a-f]{64})"\}\z/;
        $known++;
        $broken++ if !defined $fill || sha256_hex($fill) ne $digest || $event->{type} ne 'abort.tested';
    }
    is $broken, 0, "$stage: no event holds another's bytes";
    $checked += $known;
}

# Others publish all the while, in a process of their own; it reports what they were answered.
sub with_load ($stage, $work) {
    my $stop = $t->path("stop-$stage");
    pipe my $read, my $write or die "pipe: $!";
    my $pid = fork() // die "fork: $!";
    if ($pid == 0) {
        my @requests = map { request_of(200 + int rand 3000) } 1 .. 16;
        my (%counts, @ids);
        while (!-e $stop) {
            my $got = eval {
                Headgate::Load->run(
                    port => $port, connections => 8, requests => 64, bytes => sub ($n) { $requests[$n % 16] }, seconds => 90,
                    on_answer => sub ($status, $body) { push @ids, $1 if $status == 201 && $body =~ /"id": ?"([0-9a-f-]+)"/ },
                );
            } // { "failed: $@" => 1 };
            $counts{$_} += $got->{$_} for keys %$got;
        }
        print {$write} JSON::PP::encode_json({ counts => \%counts, ids => \@ids });
        close $write;
        POSIX::_exit(0);
    }
    close $write;
    my $ok = eval { $work->(); 1 };
    my $error = $@;
    $t->write_file("stop-$stage", '');
    local $/;
    my $report = JSON::PP::decode_json(<$read> || '{}');
    waitpid $pid, 0;
    $proxy->command('pass') if !$ok;
    $t->die_with_logs($error) if !$ok;
    is_deeply [keys $report->{counts}->%*], ['201'], "$stage: the others were all answered 201" or diag explain $report->{counts};
    ok $report->{counts}{201} > 0, "$stage: and there were some";
    my %stored = map { $_->{id} => 1 } $redis->events;
    is scalar(grep { !$stored{$_} } $report->{ids}->@*), 0, "$stage: each of theirs is in Redis";
    check_stored($stage);
    $redis->command('DEL', $redis->streams) if $redis->streams;
}

sub abort ($client, $n) { $n % 2 ? $client->reset : $client->close }

sub connections_now () {
    return ($edge->nginx->get('/connections')->body =~ /Active connections: (\d+)/)[0];
}

# How many clients nginx has said to have gone in the middle of a request.
my ($log_offset, $gone) = (0, 0);
sub gone_in_log () {
    open my $file, '<:raw', $edge->nginx->{error_log} or die $!;
    seek $file, $log_offset, 0;
    while (my $line = <$file>) {
        last if $line !~ /\n\z/;
        $log_offset += length $line;
        $gone++ if $line =~ /client prematurely closed connection|recv\(\) failed/;
    }
    return $gone;
}

# Opens clients, sends each what it gets to send, waits for the moment, and drops them all. While a
# request's bytes are half written its connection stays (that is what is tested): then the log tells.
sub in_rounds ($round_size, $send, $moment, $pinned = 0, $after = sub { }, $aborts = $ABORTS) {
    for (my $done = 0; $done < $aborts;) {
        my $count   = $aborts - $done < $round_size ? $aborts - $done : $round_size;
        my @clients = map { my $client = $edge->nginx->connect; $send->($client); $client } 1 .. $count;
        $moment->($count);
        my $gone_before = gone_in_log();
        abort($clients[$_], $_) for 0 .. $#clients;
        # 8 of the load and this one
        $t->wait_for(
            'nginx to see that its clients have gone',
            sub { $pinned ? gone_in_log() >= $gone_before + $count : connections_now() <= 9 }, 60
        );
        $after->();
        $done += $count;
    }
}

sub next_is_right ($stage) {
    my $body   = body_of(5000);
    my $answer = $edge->publish(token => $token, body => $body);
    is $answer->status, 201, "$stage: the next request is answered 201" or diag $answer->body;
    my $stored = $redis->event($answer->json->{id} // '');
    ok $stored && index($body, $stored->{payload}) > 0, "$stage: and stored as it was sent";
}

my $connects = $edge->status->{redis}{connects};

with_load(
    headers => sub {
        in_rounds(50, sub ($client) { my $bytes = any_of(1000); $client->send_bytes(substr $bytes, 0, rand index $bytes, "\r\n\r\n") }, sub ($) { });
    }
);
next_is_right('headers');

with_load(
    body => sub {
        in_rounds(
            50,
            sub ($client) {
                my $bytes = any_of(40_000);
                my $body  = 4 + index $bytes, "\r\n\r\n";
                $client->send_bytes(substr $bytes, 0, $body + int rand length($bytes) - $body);
            },
            sub ($) { }
        );
    }
);
next_is_right('mid-body');

# The whole request at once, and gone before anything was awaited.
with_load(queued => sub { in_rounds(50, sub ($client) { $client->send_bytes(any_of(1000 + int rand 60_000)) }, sub ($) { }) });
next_is_right('queued');

# A batch asks its limits twice: before the body and after the scan.
with_load(charged => sub { in_rounds(20, sub ($client) { $client->send_bytes(batch_of(1000 + int rand 20_000, '/charged')) }, sub ($) { }, 0, sub { }, $ABORTS / 5) });
next_is_right('charged');

# Half of the bodies lie in memory, half in temporary files.
with_load(
    half_written => sub {
        my ($sent, $bytes) = (0, 0);
        in_rounds(
            25,
            sub ($client) {
                $proxy->command('stall_requests');
                my $size = $sent++ % 4 < 2 ? 90_000 : 40_000;
                $bytes += $size;
                $client->send_bytes(any_of($size));
            },
            sub ($count) {
                $t->wait_for(
                    'bodies to pile up before a Redis that does not read',
                    sub { $edge->status->{published}{inflight_bytes} >= $bytes }, 60
                );
                $bytes = 0;
            },
            1,
            sub () { $proxy->command('pass') }
        );
    }
);
next_is_right('half written');

with_load(
    awaiting_reply => sub {
        my $requests;
        in_rounds(
            50,
            sub ($client) {
                $proxy->command('stall_replies');
                $requests //= $proxy->stats->{requests};
                $client->send_bytes(any_of(2000));
            },
            sub ($count) {
                $t->wait_for('the commands to have left', sub { $proxy->stats->{requests} >= $requests + $count * 2000 }, 60);
                undef $requests;
            },
            0,
            sub () { $proxy->command('pass') }
        );
    }
);
next_is_right('awaiting the reply');

is $edge->status->{redis}{connects}, $connects, 'all of it happened on one and the same Redis connection';

# The same, when the connection breaks under a half-written command.
$proxy->command('stall_requests');
my @clients = map { my $client = $edge->nginx->connect; $client->send_bytes(any_of(200_000)); $client } 1 .. 20;
$t->wait_for('bodies to pile up', sub { $edge->status->{published}{inflight_bytes} >= 20 * 200_000 });
abort($clients[$_], $_) for 0 .. 9;
$proxy->command('drop');
$proxy->command('pass');
is_deeply [map { $_->read_response->status } @clients[10 .. 19]], [(503) x 10], 'a connection that breaks half-way: those who wait are told 503';
$t->wait_for('a new connection', sub { $edge->publish(token => $token, body => body_of(100))->status == 201 });
next_is_right('after a broken connection');
check_stored('after a broken connection');
is $edge->status->{published}{inflight_bytes}, 0, 'nothing is left in flight';
note "checked $checked stored events";

$t->done;
