# Which Redis holds what (headgate_redis_use), and which of several servers is the master: found at the start, found
# again when another is promoted, by hand or by Sentinel, under load. What was answered 201 is in the Redis that took over.
use v5.36;
use Test::More;

use JSON::PP ();
use POSIX ();

use Headgate::Credentials;
use Headgate::Edge;
use Headgate::Load;
use Headgate::Sentinel;
use Headgate::Test;

my $t = Headgate::Test->new;

# -- two Redises by name ----------------------------------------------------------------------------
my $durable  = $t->redis(name => 'durable', appendfsync => 'no');
my $volatile = $t->redis(name => 'volatile', appendonly => 'no', extra => 'maxmemory-policy allkeys-lru');
my $edge = Headgate::Edge->start(
    $t, redis => $durable, limit => 'headgate_limit plan; headgate_limit_mode exact; headgate_limit_on_error deny;',
    http => 'headgate_redis 127.0.0.1:' . $volatile->port . ' name=volatile; headgate_redis_use limits volatile;',
);
my $key = $edge->add_key(limits => '100r/d');    # of a faster one nothing is left after a moment
is $edge->publish(key => $key)->status, 201, 'limits in a Redis that may evict, events in one that may not';
is scalar($volatile->command('KEYS', 'headgate:limit:*')->@*), 1, 'the limit is in the one';
is $volatile->event_count, 0, 'and no event';
is $durable->event_count, 1, 'the event is in the other';
is scalar($durable->command('KEYS', 'headgate:limit:*')->@*), 0, 'and no limit';
is_deeply $_->command('HMGET', 'headgate:meta', 'contract', 'shards'), [1, 8], "headgate:meta is in $_->{name}" for $durable, $volatile;
$volatile->command('SCRIPT', 'FLUSH');
is $edge->publish(key => $key)->status, 201, 'NOSCRIPT is healed there as well';
$volatile->stop;
is $edge->publish(key => $key)->status, 503, 'without the limits\' Redis: 503';
is $edge->status->{redis}{state}, 'backoff', 'the status shows the worst of them';
$volatile->restart;
$t->wait_for('limits to be back', sub { $edge->publish(key => $key)->status == 201 });
$_->process->stop for $edge->nginx;
$_->stop for $durable, $volatile;

# Keys apart: what is unknown there is unknown, whatever the events' Redis has.
my $keys = $t->redis(name => 'keys', appendonly => 'no');
$durable->restart;
$edge = Headgate::Edge->start(
    $t, redis => $keys, name => 'apart', http => 'headgate_redis 127.0.0.1:' . $durable->port . ' name=events; headgate_redis_use events events;',
);
$key = $edge->add_key;
my $before = $durable->event_count;
is $edge->publish(key => $key)->status, 201, 'keys in a Redis of their own';
is $durable->event_count - $before, 1, 'events in the other';
is $edge->publish(key => Headgate::Credentials::make_api_key())->status, 401, 'an unknown key is unknown';
$edge->nginx->process->stop;
$_->stop for $durable, $keys;

# -- load, and an account of it ---------------------------------------------------------------------
# Publishes all the time, until `until` says stop: (ids that were answered 201, count of each status).
sub load_while ($edge, $work) {
    my $token = $edge->token(claims => { plan => 'unlimited' });
    my $bytes = Headgate::Http->format_request('POST', '/events', headers => [$edge->headers(token => $token)], body => Headgate::Edge::event_body());
    my $stop = $t->path('stop-load');
    unlink $stop;
    pipe my $read, my $write or die "pipe: $!";
    my $pid = fork() // die "fork: $!";
    if ($pid == 0) {
        my (%counts, @ids);
        while (!-e $stop) {
            my $got = Headgate::Load->run(
                port => $edge->nginx->port, connections => 8, requests => 64, bytes => $bytes,
                on_answer => sub ($status, $body) { push @ids, $1 if $status == 201 && $body =~ /"id":"([0-9a-f-]+)"/ },
            );
            $counts{$_} += $got->{$_} for keys %$got;
        }
        print {$write} JSON::PP::encode_json([\%counts, \@ids]);
        close $write;
        POSIX::_exit(0);
    }
    close $write;
    my $ok    = eval { $work->(); 1 };
    my $error = $@;
    $t->write_file('stop-load', '');
    local $/;
    my $report = JSON::PP::decode_json(<$read> || '[{},[]]');
    waitpid $pid, 0;
    $t->die_with_logs($error) if !$ok;
    return @$report;
}

sub account ($name, $counts, $ids, $redis) {
    delete $redis->{client};  # a server whose role changes drops its clients
    my %stored = map { $_->{id} => 1 } $redis->events;
    is scalar(grep { !$stored{$_} } @$ids), 0, "$name: each of " . @$ids . ' events that were answered 201 is there';
    is_deeply [grep { $_ ne 201 && $_ ne 503 } keys %$counts], [], "$name: the only error was 503" or diag explain $counts;
}

# Makes `replicas` servers that follow the first.
sub group ($prefix, $count) {
    my @servers = map { $t->redis(name => "$prefix$_", appendonly => 'no', extra => "repl-diskless-sync-delay 0\nmin-replicas-max-lag 10") } 1 .. $count;
    $_->command('REPLICAOF', '127.0.0.1', $servers[0]->port) for @servers[1 .. $#servers];
    # Twice: the first WAIT may count a replica that has only just loaded what was there, and whose next word comes in a second.
    my $seen = sub { $servers[0]->command('INCR', 'seen') > 1 && $servers[0]->command('WAIT', $count - 1, 100) == $count - 1 };
    $t->wait_for('the replicas to follow', $seen, 30) for 1 .. 2;
    return @servers;
}

# -- promotion by hand ------------------------------------------------------------------------------
my ($master, $replica) = group('plain', 2);
# The replica stands first: it has to be passed over already at the start.
$edge = Headgate::Edge->start(
    $t, redis => $master, name => 'plain', redis_address => '127.0.0.1:' . $replica->port . ' 127.0.0.1:' . $master->port,
    http => 'headgate_publish_ack replica;',
);
my $token = $edge->token(claims => { plan => 'unlimited' });
is $edge->publish(token => $token)->status, 201, 'a replica among the addresses is passed over';
my ($counts, $ids) = load_while(
    $edge,
    sub {
        $t->wait_for('some events', sub { $master->event_count > 200 });
        # What a careful operator does: the old master takes nothing more, the replica catches up and takes over.
        $replica->command('REPLICAOF', 'NO', 'ONE');
        $master->command('REPLICAOF', '127.0.0.1', $replica->port);
        $t->wait_for('the edge to write to the promoted replica', sub { $edge->publish(token => $token)->status == 201 }, 20);
    }
);
account('promotion', $counts, $ids, $replica);

# Without its replica the master has the events, but the promise is not kept: 503, and why.
$master->stop;
my $stored = $replica->event_count;
$t->wait_for('events to be refused without a replica', sub { $edge->publish(token => $token)->status == 503 });
ok $replica->event_count > $stored, 'the event is in Redis all the same';
$t->wait_for('the reason in the log', sub { $edge->nginx->error_text =~ /events reached only 0 replicas within \d+ ms/ });
is $edge->nginx->request('POST', '/events', headers => [$edge->headers(token => $token)], body => '{')->status, 400, 'others are served meanwhile';
$edge->nginx->process->stop;
$replica->stop;

# -- Sentinel ---------------------------------------------------------------------------------------
($master, $replica) = group('sentinel', 2);
my $sentinel = Headgate::Sentinel->start($t, master => $master);
$sentinel->wait_for_replicas(1);
my $dead_port = $t->port;
$edge = Headgate::Edge->start(
    $t, redis => $master, name => 'sentinel', redis_address => "127.0.0.1:$dead_port 127.0.0.1:" . $sentinel->port,
    redis_options => 'sentinel=mymaster', http => 'headgate_publish_ack replica=1;',
);
$token = $edge->token(claims => { plan => 'unlimited' });
($counts, $ids) = load_while(
    $edge,
    sub {
        $t->wait_for('some events', sub { $master->event_count > 100 });
        $master->crash;
        # The one that took over has no replica: it stores, and the edge says 503 until there is one again.
        $t->wait_for('the Sentinel to promote the replica', sub { $sentinel->master_port == $replica->port }, 30);
        $master->restart;
        $master->command('REPLICAOF', '127.0.0.1', $replica->port);  # Sentinel would do it, after 10 s
        $t->wait_for('the edge to be served again', sub { $edge->publish(token => $token)->status == 201 }, 30);
    }
);
account('Sentinel', $counts, $ids, $replica);
$edge->nginx->process->stop;

# A master that the Sentinels do not know.
my $strange = Headgate::Edge->start(
    $t, redis => $replica, name => 'strange', redis_address => '127.0.0.1:' . $sentinel->port, redis_options => 'sentinel=other',
    wait => 0, projected => 0,
);
$t->wait_for('the reason in the log', sub { $strange->nginx->error_text =~ /this Sentinel does not know the master/ });
is $strange->publish(token => $strange->token)->status, 503, 'a master that the Sentinels do not know: 503';

$t->done;
