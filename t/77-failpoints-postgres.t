# The places inside transactions, on PostgreSQL: `headgate-failpoints` is killed by SIGKILL once at each of them under load,
# and loses its leases in the middle of a batch: nothing answered 201 is lost, doubled or altered, and what runs beside events
# is done whole and once. t/55-failpoints.t has all places, on SQLite.
use v5.36;
use List::Util qw(shuffle);
use Test::More;
use Time::HiRes qw(time);

use Headgate::Credentials qw(uuid);
use Headgate::Postgres;
use Headgate::Reconcile;
use Headgate::Test;

my $executable = $ENV{HEADGATE_FAILPOINTS_BIN} // Headgate::Test->root . '/build/headgate-failpoints';
-x $executable or BAIL_OUT('build/headgate-failpoints is missing: make failpoints');
Headgate::Postgres->need;

my $seed = $ENV{HEADGATE_FAILPOINT_SEED} || time ^ $$;
srand $seed;
diag "seed $seed";

my $t        = Headgate::Test->new;
my $postgres = Headgate::Postgres->start($t);
my $redis    = $t->redis;
my $sidecar  = $t->sidecar(redis => $redis, postgres => $postgres)->serve->wait_until_healthy;
my $front    = $sidecar->front;
my $road     = Headgate::Reconcile->new($t, $sidecar);
my $publisher = $road->start_publisher(
    url => 'http://127.0.0.1:' . $front->port . '/events', until => $t->path('enough'), concurrency => 4, pause_ms => 20, bytes_max => 4000,
);
$t->wait_for('the first deliveries', sub { $road->received_count >= 20 });
$sidecar->crash;

my $org     = $sidecar->org;
my $webhook = $postgres->sql('SELECT id FROM webhooks LIMIT 1');
my (%made, @broken);
sub now_ms () { int(time * 1000) }

# What each chore needs to have something to do.
my %before = (
    in_relay => sub {
        $made{outbox}++;
        $sidecar->change("INSERT INTO system_outbox (organization_id, type, payload, created_at) VALUES ('$org', 'webhook.disabled', '{}', @{[ now_ms() ]})");
    },
    in_replay => sub {
        my $id = uuid();
        $sidecar->change("INSERT INTO replays (id, organization_id, webhook_id, since_at, until_at, which, total, seq_max, cursor_at, created_at, updated_at)"
            . " SELECT '$id', '$org', '$webhook', 0, @{[ now_ms() ]}, 'all', least(seq, 40), least(seq, 40), 0, @{[ now_ms() ]}, @{[ now_ms() ]} FROM organizations WHERE id = '$org'");
    },
    in_purge => sub {
        my $id = uuid();
        $sidecar->change("INSERT INTO events (id, organization_id, seq, key_id, type, source, payload, ordering_key, traceparent, via, created_at, updated_at)"
            . " VALUES ('$id', '$org', -1, '', 'old.one', 'test', '{}', '', '', 'api', 1000, 1000);"
            . "INSERT INTO deliveries (id, organization_id, webhook_id, event_id, state, status, due_at, generation, lane, shard, stream_ms, stream_seq, created_at, updated_at)"
            . " VALUES ('@{[ uuid() ]}', '$org', '$webhook', '$id', 'success', 'success', 0, 1, 0, 0, 0, 0, 1000, 1000)");
    },
);
# The most hits before the one that kills.
my %places = (
    (map { $_ => 6 } qw(before_commit after_commit_before_ack in_record after_record_before_release)),
    (map { $_ => 1 } qw(in_recover in_renew in_relay in_replay in_purge)),
);

sub killed_at ($place, $failpoint, $meanwhile = undef) {
    # Nobody waits for the leases of the dead: t/46-many-machines.t does.
    $sidecar->change('UPDATE leases SET until = 0; UPDATE instances SET until = 0');
    my $process = $sidecar->serve_until($failpoint);
    $meanwhile->($process) if $meanwhile;
    $process->wait(60) or $t->die_with_logs("$failpoint was never hit");
    my $status = $process->status;
    $t->die_with_logs("$failpoint: " . $process->describe_exit) if ($status & 127) != 9;
    $sidecar->{crashed} = 1;
    pass "killed by SIGKILL at $failpoint";
}

for my $place (shuffle(sort keys %places)) {
    $before{$place}->() if $before{$place};
    killed_at($place, $place . ':' . (1 + int rand $places{$place}));
    next if $place ne 'in_purge';
    my ($events, $deliveries) = map { $postgres->sql($_) } "SELECT count(*) FROM events WHERE type = 'old.one'", 'SELECT count(*) FROM deliveries WHERE created_at = 1000';
    push @broken, "$events old events, $deliveries deliveries of them" if $events != $deliveries;
}

# The lease goes to somebody else while a batch is under way: whatever it had read, it writes nothing.
killed_at(
    'after_refused_write',
    'lease_lost_mid_batch:2=stop,after_refused_write',
    sub ($process) {
        $t->wait_for('the stop in mid-batch', sub {
            $process->alive or $t->die_with_logs('ended before it lost its lease: ' . $process->describe_exit);
            open my $stat, '<', '/proc/' . $process->pid . '/stat' or return 0;
            return (<$stat> // '') =~ /\) T /;
        }, 60);
        $sidecar->change("UPDATE leases SET epoch = epoch + 1, owner = 'another' WHERE kind = 'shard'");
        my $events = $postgres->sql('SELECT count(*) FROM events');
        $process->signal('CONT');
        $process->wait(60) or $t->die_with_logs('the write was not refused');
        my $now = $postgres->sql('SELECT count(*) FROM events');
        push @broken, "wrote $events .. $now events without its lease" if $now != $events;
    }
);
is_deeply \@broken, [], 'nothing was left half done';

$t->write_file('enough', '');
my $summary = $road->finish_publisher($publisher);
$sidecar->change("UPDATE leases SET owner = '', until = 0; UPDATE instances SET until = 0");
$sidecar->serve->wait_until_healthy(60);
$road->wait_until_delivered(120);
my $account = $road->account;
is $account->{persisted_once}, $summary->{accepted}, 'every 201 is in PostgreSQL exactly once, byte for byte';
is_deeply $account->{wrong}, [], 'none is missing, doubled or altered';
is $account->{delivered}, $summary->{accepted}, 'every 201 was delivered at least once';
is $account->{verified}, $account->{received}, 'every delivery verified';
$t->wait_for('the replay to end', sub { !$postgres->sql("SELECT count(*) FROM replays WHERE state <> 'done'") }, 60);
is $postgres->sql('SELECT count(*) FROM (SELECT 1 FROM replays r LEFT JOIN deliveries d ON d.replay_id = r.id GROUP BY r.id'
    . ' HAVING r.made <> count(d.id) OR r.made <> count(DISTINCT d.event_id) OR r.made <> r.total) wrong'), 0, 'the replay made each delivery once';
is $postgres->sql("SELECT count(*) FROM events WHERE via = 'system' AND type = 'webhook.disabled'"), $made{outbox}, 'the operational event was made once';
is $postgres->sql('SELECT count(*) FROM system_outbox'), 0, 'and none waits';
$t->wait_for('the old event to be forgotten', sub { !$postgres->sql("SELECT count(*) FROM events WHERE type = 'old.one'") }, 60);
is $postgres->sql('SELECT count(*) FROM deliveries WHERE created_at = 1000'), 0, 'with its delivery';
is $postgres->sql('SELECT count(*) FROM quarantine'), 0, 'nothing was broken';
diag $road->report($account);

$t->done;
