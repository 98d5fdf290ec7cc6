# headgate-failpoints, which is `headgate` but for one object file, killed by SIGKILL at each of its named places, again and
# again, under load: nothing answered 201 is lost, doubled in the store or altered, and what runs beside events
# (projection, operational events, replays, retention) is done whole and once. HEADGATE_FAILPOINT_HITS: kills at each
# place (`make failpoints N=20`); HEADGATE_FAILPOINT_SEED: of which hit kills.
use v5.36;
use List::Util qw(shuffle);
use Test::More;
use Time::HiRes qw(sleep time);

use Headgate::Credentials qw(uuid);
use Headgate::Reconcile;
use Headgate::Test;

my $hits = $ENV{HEADGATE_FAILPOINT_HITS} || 2;
my $seed = $ENV{HEADGATE_FAILPOINT_SEED} || time ^ $$;
srand $seed;
diag "seed $seed, $hits kills at each failpoint";

my $t       = Headgate::Test->new;
my $redis   = $t->redis;
my $sidecar = $t->sidecar(redis => $redis)->serve->wait_until_healthy;
-x $sidecar->executable_with_failpoints or BAIL_OUT('build/headgate-failpoints is missing: make failpoints');
my $front   = $sidecar->front;
my $road    = Headgate::Reconcile->new($t, $sidecar);
my $publisher = $road->start_publisher(
    url => 'http://127.0.0.1:' . $front->port . '/events', until => $t->path('enough'), concurrency => 8, pause_ms => 20,
);
$t->wait_for('the first deliveries', sub { $road->received_count >= 20 });
$sidecar->crash;

my $org = $sidecar->org;
my ($webhook) = map { $_->{id} } $sidecar->sql('SELECT id FROM webhooks LIMIT 1');
my (%made, @broken);

# What each chore needs to have something to do.
my %before = (
    in_project => sub { push $made{keys}->@*, $sidecar->run_json('key', 'create', '--org', $org, '--name', 'one more', '--scopes', 'events:read')->{id} },
    in_relay => sub {
        $made{outbox}++;
        $sidecar->change("INSERT INTO system_outbox (organization_id, type, payload, created_at) VALUES ('$org', 'webhook.disabled', '{}', @{[ now_ms() ]})");
    },
    in_replay => sub {
        my $id = uuid();
        push $made{replays}->@*, $id;
        $sidecar->change("INSERT INTO replays (id, organization_id, webhook_id, since_at, until_at, which, total, seq_max, cursor_at, created_at, updated_at)"
            . " SELECT '$id', '$org', '$webhook', 0, @{[ now_ms() ]}, 'all', min(seq, 40), min(seq, 40), 0, @{[ now_ms() ]}, @{[ now_ms() ]} FROM organizations WHERE id = '$org'");
    },
    in_spread => sub {
        $sidecar->change("INSERT INTO deliveries (id, organization_id, webhook_id, event_id, state, kind, due_at, generation, lane, shard, stream_ms, stream_seq, created_at, updated_at)"
            . " SELECT '@{[ uuid() ]}', organization_id, webhook_id, event_id, 'queued', 'test', @{[ now_ms() - 3_600_000 ]}, generation, lane, 0, 0, 0, created_at, updated_at FROM deliveries LIMIT 1");
    },
    in_purge => sub {
        my $id  = uuid();
        my $seq = -++$made{old};
        $sidecar->change("INSERT INTO events (id, organization_id, seq, key_id, type, source, payload, ordering_key, traceparent, via, created_at, updated_at)"
            . " VALUES ('$id', '$org', $seq, '', 'old.one', 'test', '{}', '', '', 'api', 1000, 1000);"
            . "INSERT INTO deliveries (id, organization_id, webhook_id, event_id, state, status, due_at, generation, lane, shard, stream_ms, stream_seq, created_at, updated_at)"
            . " VALUES ('@{[ uuid() ]}', '$org', '$webhook', '$id', 'success', 'success', 0, 1, 0, 0, 0, 0, 1000, 1000)");
    },
);
# In the middle of a transaction: what is there of an old event is there whole.
my %after = (
    in_purge => sub {
        my ($events, $deliveries) = map { $sidecar->sql_value($_) } "SELECT count(*) FROM events WHERE type = 'old.one'",
            "SELECT count(*) FROM deliveries WHERE created_at = 1000";
        push @broken, "$events old events, $deliveries deliveries of them" if $events != $deliveries;
    },
);
# The least and the most hits before the one that kills.
my %places = (
    (map { $_ => 6 } qw(lease_lost_mid_batch before_commit after_commit_before_ack after_ack_before_accept)),
    (map { $_ => 40 } qw(after_claim_before_send after_send_before_record)),
    (map { $_ => 6 } qw(in_record after_record_before_release)),
    (map { $_ => 1 } qw(in_recover in_spread in_renew in_project_everything in_project in_relay in_replay in_purge)),
);

sub now_ms () { int(time * 1000) }

sub killed_at ($place, $failpoint, $meanwhile = undef) {
    my $process = $sidecar->serve_until($failpoint);
    $meanwhile->($process) if $meanwhile;
    $process->wait(60) or $t->die_with_logs("$failpoint was never hit");
    my $status = $process->status;
    $t->die_with_logs("$failpoint: " . $process->describe_exit) if ($status & 127) != 9;
    $sidecar->{crashed} = 1;
}

# The lease goes to somebody else while a batch is under way: whatever it had read, it writes nothing.
sub lose_lease () {
    my $nth = 1 + int rand 4;
    killed_at(
        'after_refused_write',
        "lease_lost_mid_batch:$nth=stop,after_refused_write",
        sub ($process) {
            $t->wait_for('the stop in mid-batch', sub {
                $process->alive or $t->die_with_logs('ended before it lost its lease: ' . $process->describe_exit);
                open my $stat, '<', '/proc/' . $process->pid . '/stat' or return 0;
                return (<$stat> // '') =~ /\) T /;
            }, 60);
            $sidecar->change("UPDATE leases SET epoch = epoch + 1, owner = 'another' WHERE kind = 'shard'");
            my $events = $sidecar->sql_value('SELECT count(*) FROM events');
            $process->signal('CONT');
            $process->wait(60) or $t->die_with_logs('the write was not refused');
            my $now = $sidecar->sql_value('SELECT count(*) FROM events');
            push @broken, "wrote $events .. $now events without its lease" if $now != $events;
            # The other one is gone as well.
            $sidecar->change("UPDATE leases SET owner = '', until = 0 WHERE kind = 'shard'");
        }
    );
}

my %killed;
for my $round (1 .. $hits) {
    for my $place (shuffle(sort keys %places)) {
        $before{$place}->() if $before{$place};
        killed_at($place, $place . ':' . (1 + int rand $places{$place}));
        $after{$place}->() if $after{$place};
        $killed{$place}++;
    }
    lose_lease();
    $killed{after_refused_write}++;
    diag "round $round of $hits: " . $road->accepted_count . ' events accepted, ' . $road->received_count . ' received' if $hits > 2;
}
for my $place (sort(keys %places), 'after_refused_write') {
    is $killed{$place}, $hits, "killed by SIGKILL at $place, $hits times";
}
is_deeply \@broken, [], 'nothing was left half done';

$t->write_file('enough', '');
my $summary = $road->finish_publisher($publisher);
$sidecar->serve->wait_until_healthy(60);
$road->wait_until_delivered(120);
my $account = $road->account;
is $account->{persisted_once}, $summary->{accepted}, 'every 201 is in SQLite exactly once, byte for byte';
is_deeply $account->{wrong}, [], 'none is missing, doubled or altered';
is $account->{delivered}, $summary->{accepted}, 'every 201 was delivered at least once';
is $account->{verified}, $account->{received}, 'every delivery verified';

$t->wait_for('the replays to end', sub { !$sidecar->sql_value("SELECT count(*) FROM replays WHERE state <> 'done'") }, 60);
is_deeply [$sidecar->sql("SELECT r.id, r.made, count(d.id) AS rows, count(DISTINCT d.event_id) AS events FROM replays r LEFT JOIN deliveries d"
    . " ON d.replay_id = r.id GROUP BY r.id HAVING r.made <> rows OR r.made <> events OR r.made <> r.total")], [], 'each replay made each delivery once';
is $sidecar->sql_value("SELECT count(*) FROM events WHERE via = 'system' AND type = 'webhook.disabled'"), $made{outbox}, 'each operational event was made once';
is $sidecar->sql_value('SELECT count(*) FROM system_outbox'), 0, 'and none waits';
$t->wait_for('the old events to be forgotten', sub { !$sidecar->sql_value("SELECT count(*) FROM events WHERE type = 'old.one'") }, 60);
is $sidecar->sql_value('SELECT count(*) FROM deliveries WHERE created_at = 1000'), 0, 'with their deliveries';
$t->wait_for('the projections to be done', sub { !$sidecar->sql_value('SELECT count(*) FROM projections') }, 60);
my %projected = map { $redis->command('HGET', $_, 'id') => 1 } map { @$_ } $redis->command('KEYS', 'headgate:key:*');
is_deeply [grep { !$projected{$_} } $made{keys}->@*], [], 'every key that was made is in Redis';
is $sidecar->sql_value('SELECT count(*) FROM quarantine'), 0, 'nothing was broken';
diag $road->report($account);

$t->done;
