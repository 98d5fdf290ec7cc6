# The promise of leases under load and accidents: two nginx of two workers each share one Redis and one key, and no
# span of t seconds admits more than burst + rate * (t + 0.1 s), as the clients count. test_lease.cpp lives thousands of
# such schedules in a model; this is the real thing once.
use v5.36;
use Test::More;

use IO::Select;
use JSON::PP ();
use POSIX ();
use Time::HiRes qw(time sleep);

use Headgate::Edge;
use Headgate::Test;

my ($RATE, $BURST, $DAY, $SECONDS) = (800, 800, 1_000_000, 1.5);

my $t = Headgate::Test->new;
$t->write_file('html/page', "page\n", 0644);
my $redis = $t->redis(appendfsync => 'everysec');
my @proxies = map { $t->proxy(to_port => $redis->port) } 1 .. 2;
my %common = (
    redis => $redis, workers => 2, redis_options => 'timeout=500ms connect_timeout=1s',
    http => 'access_log off; keepalive_requests 1000000;',
    locations => "location = /page { headgate_limit rate=${RATE}r/s:$BURST rate=${DAY}r/d name=l key=\$arg_k; headgate_limit_on_error deny; root "
        . $t->dir('html') . '; try_files /page =404; }',
);
my @edges = (Headgate::Edge->start($t, %common, redis_address => '127.0.0.1:' . $proxies[0]->port));
# The second nginx is the first one's configuration with other ports and another directory.
my $http2 = $edges[0]->nginx->{http} =~ s/127\.0\.0\.1:$proxies[0]{port}/127.0.0.1:$proxies[1]{port}/r;
my @nginx = ($edges[0]->nginx, $t->nginx(name => 'nginx2', workers => 2, http => $http2, server => $edges[0]->nginx->{server}));
$t->wait_for('the second edge', sub { $nginx[1]->get('/status')->json->{redis}{state} eq 'ready' });
$_->expect_alarms(qr/exited on signal 9/) for @nginx;

# Closed-loop clients of both, with pauses now and then; reports [sent, answered, status] of every request.
sub start_load ($key, $seed) {
    pipe my $read, my $write or die "pipe: $!";
    my $pid = fork() // die "fork: $!";
    if (!$pid) {
        close $read;
        srand $seed;
        my (@done, %state);
        my $end     = time + $SECONDS;
        my $select  = IO::Select->new;
        my $request = Headgate::Http->format_request('GET', "/page?k=$key");
        my $open = sub ($port) {
            my $http = eval { Headgate::Http->connect(port => $port) } or return;
            $state{ fileno $http->socket } = { http => $http, port => $port, buffer => '', sent => time };
            $select->add($http->socket);
            syswrite $http->socket, $request;
        };
        my @later;    # [when, socket]
        for my $port (map { $_->port } @nginx) { $open->($port) for 1 .. 12 }
        while (time < $end) {
            for my $socket ($select->can_read(0.005)) {
                my $state = $state{ fileno $socket };
                if (!sysread $socket, $state->{buffer}, 65_536, length $state->{buffer}) {
                    $select->remove($socket);
                    push @done, [$state->{sent}, time, 0];
                    $state->{http}->close;
                    $open->($state->{port});
                    next;
                }
                my ($status, $length) = $state->{buffer} =~ /\AHTTP\/1\.1 (\d+).*?\r\nContent-Length: (\d+).*?\r\n\r\n/s or next;
                next if length $state->{buffer} < $+[0] + $length;
                push @done, [$state->{sent}, time, $status];
                $state->{buffer} = '';
                # Refused clients come back a little later, others at once or after a pause.
                my $pause = $status != 200 ? 0.002 + rand 0.01 : rand() < 0.03 ? rand 0.3 : 0;
                push @later, [time + $pause, $socket];
            }
            my $now = time;
            my @due = grep { $_->[0] <= $now } @later;
            @later = grep { $_->[0] > $now } @later;
            for my $socket (map { $_->[1] } @due) {
                next if !$select->exists($socket);
                $state{ fileno $socket }{sent} = time;
                syswrite $socket, $request;
            }
        }
        print {$write} JSON::PP::encode_json(\@done);
        close $write;
        POSIX::_exit(0);
    }
    close $write;
    return sub {
        local $/;
        my $text = <$read>;
        waitpid $pid, 0;
        return JSON::PP::decode_json($text)->@*;
    };
}

# The largest excess over the bound, of all spans on a grid. A request counts where it was both sent and answered
# within: it was admitted in between.
sub worst_excess ($bursts, @admitted) {
    my ($first, $last) = (sort { $a <=> $b } map { $_->[0] } @admitted)[0, -1];
    my @by_answer = sort { $a->[1] <=> $b->[1] } @admitted;
    my $worst = -1e9;
    for (my $from = $first; $from < $last; $from += 0.02) {
        my $count = 0;
        for my $request (@by_answer) {
            next if $request->[0] < $from;
            my $excess = ++$count - $bursts * $BURST - $RATE * ($request->[1] - $from + 0.1);
            $worst = $excess if $excess > $worst;
        }
    }
    return $worst;
}

sub redis_now_us { my $now = $redis->command('TIME'); return $now->[0] * 1e6 + $now->[1] }
sub evalsha_calls { my ($n) = $redis->command('INFO', 'commandstats') =~ /cmdstat_evalsha:calls=(\d+)/; return $n // 0 }

sub run ($name, $bursts, $accident) {
    my $key      = $name =~ s/\W+/-/gr;
    my $began_us = redis_now_us();
    my $calls    = evalsha_calls();
    my $seed     = int rand 1e9;
    my $finish   = start_load($key, $seed);
    $accident->();
    my @done     = $finish->();
    my @admitted = grep { $_->[2] == 200 } @done;
    my %counts;
    $counts{ $_->[2] }++ for @done;
    my $said = "seed $seed: " . join ', ', map { "$counts{$_} x $_" } sort keys %counts;
    cmp_ok scalar @admitted, '>', $RATE, "$name: a good deal is admitted" or diag $said;
    my $worst = worst_excess($bursts, @admitted);
    cmp_ok $worst, '<=', 0, "$name: no span admits more than was promised" or diag $said;
    $calls = evalsha_calls() - $calls;
    my %fields = $redis->command('HGETALL', "headgate:limit:{v:l:$key}")->@*;
    my $charged = int(($fields{'l:d'} - $began_us) / (86_400e6 / $DAY));
    cmp_ok $charged, '>=', scalar @admitted, "$name: charged is never less than admitted" or diag $said if $bursts == 1;
    diag "$name: $said; worst $worst, charged $charged, $calls calls" if $ENV{HEADGATE_TEST_KEEP};
    return { admitted => scalar @admitted, charged => $charged, calls => $calls, counts => \%counts, last => (sort { $b <=> $a } map { $_->[1] } @admitted)[0] };
}

my $quiet = run('nothing happens', 1, sub { });
cmp_ok $quiet->{admitted}, '>', $RATE * $SECONDS * 0.7, 'and the rate is used';
cmp_ok $quiet->{calls}, '<', $quiet->{admitted}, 'with fewer calls than requests';

run('takes are lost', 1, sub {
    for (1 .. 3) {
        sleep 0.3;
        $proxies[ $_ % 2 ]->command($_ < 3 ? 'cut_replies 20' : 'drop');
        sleep 0.1;
        $proxies[ $_ % 2 ]->command('pass');
    }
});

run('replies are late', 1, sub {
    for (1 .. 3) {
        sleep 0.3;
        $proxies[ $_ % 2 ]->command('stall_replies');
        sleep 0.25;
        $proxies[ $_ % 2 ]->command('pass');
    }
});

my $killed = run('workers are killed', 1, sub {
    for (1 .. 3) {
        sleep 0.3;
        my @pids = $nginx[ $_ % 2 ]->worker_pids;
        # In a take, if it may be: nothing is answered while it is shot.
        $proxies[ $_ % 2 ]->command('stall_replies');
        sleep 0.02;
        kill KILL => $pids[0];
        $proxies[ $_ % 2 ]->command('pass');
    }
});
cmp_ok $killed->{last}, '>', time - 1.5, 'and the key is not blocked afterwards';

run('Redis restarts', 1, sub {
    sleep 0.5;
    $redis->stop;
    $redis->restart;
});

# A Redis that lost its memory may add one burst.
run('Redis loses its memory', 2, sub {
    sleep 0.9;
    $redis->command('FLUSHALL');
    $redis->command('HSET', 'headgate:meta', contract => 1, shards => 8);
});

$t->done;
