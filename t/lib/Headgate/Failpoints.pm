# headgate-failpoints, which is `headgate` but for one object file, killed by SIGKILL at its named places, again and again,
# under load; and what must hold after that, by event id, whatever the store. HEADGATE_FAILPOINT_HITS: kills at each place
# (`make failpoints N=20`); HEADGATE_FAILPOINT_SEED: of which hit kills.
package Headgate::Failpoints;
use v5.36;

use List::Util qw(shuffle);
use Test::More import => [qw(diag is is_deeply)];
use Time::HiRes qw(time);

use Headgate::Credentials qw(uuid);
use Headgate::Reconcile;

# The most hits of each before the one that kills.
my %PLACES = (
    (map { $_ => 6 } qw(lease_lost_mid_batch before_commit after_commit_before_ack after_ack_before_accept)),
    (map { $_ => 40 } qw(after_claim_before_send after_send_before_record)),
    (map { $_ => 6 } qw(in_record after_record_before_release)),
    (map { $_ => 1 } qw(in_recover in_spread in_renew in_project_everything in_project in_relay in_replay in_purge)),
);
my $LOST = 'after_refused_write';    # where the one that lost its lease is killed

sub now_ms () { int(time * 1000) }

# Options: hits, unless the environment says so; publisher, options of Headgate::Reconcile's. The sidecar serves; it is
# killed after the first deliveries.
sub start ($class, $t, $sidecar, %args) {
    my $self = bless { t => $t, sidecar => $sidecar, hits => $ENV{HEADGATE_FAILPOINT_HITS} || $args{hits}, broken => [], made => {} }, $class;
    my $seed = $ENV{HEADGATE_FAILPOINT_SEED} || time ^ $$;
    srand $seed;
    diag "seed $seed, $self->{hits} kills at each failpoint";

    my $front = $sidecar->front;
    my $road  = $self->{road} = Headgate::Reconcile->new($t, $sidecar);
    $self->{publisher} = $road->start_publisher(
        url => 'http://127.0.0.1:' . $front->port . '/events', until => $t->path('enough'), pause_ms => 20, $args{publisher}->%*,
    );
    $t->wait_for('the first deliveries', sub { $road->received_count >= 20 });
    $sidecar->crash;
    ($self->{webhook}) = map { $_->{id} } $sidecar->sql('SELECT id FROM webhooks LIMIT 1');
    return $self;
}

# What each chore needs to have something to do.
my %BEFORE = (
    in_project => sub ($self, $sidecar, $org, $made) {
        push $made->{keys}->@*, $sidecar->run_json('key', 'create', '--org', $org, '--name', 'one more', '--scopes', 'events:read')->{id};
    },
    in_relay => sub ($self, $sidecar, $org, $made) {
        $made->{outbox}++;
        $sidecar->change("INSERT INTO system_outbox (organization_id, type, payload, created_at) VALUES ('$org', 'webhook.disabled', '{}', @{[ now_ms() ]})");
    },
    in_replay => sub ($self, $sidecar, $org, $made) {
        my $id    = uuid();
        my $total = 'CASE WHEN seq < 40 THEN seq ELSE 40 END';
        $sidecar->change("INSERT INTO replays (id, organization_id, webhook_id, since_at, until_at, which, total, seq_max, cursor_at, created_at, updated_at)"
            . " SELECT '$id', '$org', '$self->{webhook}', 0, @{[ now_ms() ]}, 'all', $total, $total, 0, @{[ now_ms() ]}, @{[ now_ms() ]} FROM organizations WHERE id = '$org'");
    },
    in_spread => sub ($self, $sidecar, @) {
        $sidecar->change("INSERT INTO deliveries (id, organization_id, webhook_id, event_id, state, kind, due_at, generation, lane, shard, stream_ms, stream_seq, created_at, updated_at)"
            . " SELECT '@{[ uuid() ]}', organization_id, webhook_id, event_id, 'queued', 'test', @{[ now_ms() - 3_600_000 ]}, generation, lane, 0, 0, 0, created_at, updated_at FROM deliveries LIMIT 1");
    },
    in_purge => sub ($self, $sidecar, $org, $made) {
        my $id  = uuid();
        my $seq = -++$made->{old};
        $sidecar->change("INSERT INTO events (id, organization_id, seq, key_id, type, source, payload, ordering_key, traceparent, via, created_at, updated_at)"
            . " VALUES ('$id', '$org', $seq, '', 'old.one', 'test', '{}', '', '', 'api', 1000, 1000);"
            . "INSERT INTO deliveries (id, organization_id, webhook_id, event_id, state, status, due_at, generation, lane, shard, stream_ms, stream_seq, created_at, updated_at)"
            . " VALUES ('@{[ uuid() ]}', '$org', '$self->{webhook}', '$id', 'success', 'success', 0, 1, 0, 0, 0, 0, 1000, 1000)");
    },
);
# In the middle of a transaction: what is there of an old event is there whole.
my %AFTER = (
    in_purge => sub ($self, $sidecar) {
        my ($events, $deliveries) = map { $sidecar->sql_value($_) } "SELECT count(*) FROM events WHERE type = 'old.one'",
            'SELECT count(*) FROM deliveries WHERE created_at = 1000';
        push $self->{broken}->@*, "$events old events, $deliveries deliveries of them" if $events != $deliveries;
    },
);

# Nobody waits for the leases of the dead where instances share a store: t/46-many-machines.t does.
sub end_leases ($self) {
    $self->{sidecar}->change('UPDATE leases SET until = 0; UPDATE instances SET until = 0') if $self->{sidecar}{postgres};
}

sub killed_at ($self, $failpoint, $meanwhile = undef) {
    my ($t, $sidecar) = @$self{qw(t sidecar)};
    $self->end_leases;
    my $process = $sidecar->serve_until($failpoint);
    $meanwhile->($process) if $meanwhile;
    $process->wait(60) or $t->die_with_logs("$failpoint was never hit");
    my $status = $process->status;
    $t->die_with_logs("$failpoint: " . $process->describe_exit) if ($status & 127) != 9;
    $sidecar->{crashed} = 1;
}

# The lease goes to somebody else while a batch is under way: whatever it had read, it writes nothing.
sub lose_lease ($self) {
    my ($t, $sidecar) = @$self{qw(t sidecar)};
    my $nth = 1 + int rand 4;
    $self->killed_at(
        "lease_lost_mid_batch:$nth=stop,$LOST",
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
            push $self->{broken}->@*, "wrote $events .. $now events without its lease" if $now != $events;
            # The other one is gone as well.
            $sidecar->change("UPDATE leases SET owner = '', until = 0 WHERE kind = 'shard'");
        }
    );
}

# At each of these places (all, when none is named) and at the loss of a lease, so many times.
sub kill_at ($self, @places) {
    my ($sidecar, $road, $hits) = @$self{qw(sidecar road hits)};
    @places = keys %PLACES if !@places;
    my %killed;
    for my $round (1 .. $hits) {
        for my $place (shuffle(sort @places)) {
            $BEFORE{$place}->($self, $sidecar, $sidecar->org, $self->{made}) if $BEFORE{$place};
            $self->killed_at($place . ':' . (1 + int rand $PLACES{$place}));
            $AFTER{$place}->($self, $sidecar) if $AFTER{$place};
            $killed{$place}++;
        }
        $self->lose_lease;
        $killed{$LOST}++;
        diag "round $round of $hits: " . $road->accepted_count . ' events accepted, ' . $road->received_count . ' received' if $hits > 2;
    }
    for my $place (sort(@places), $LOST) {
        is $killed{$place}, $hits, "killed by SIGKILL at $place, $hits times";
    }
    is_deeply $self->{broken}, [], 'nothing was left half done';
}

# Ends the publishing, lets `headgate` do what is left, and accounts for everything.
sub settle ($self) {
    my ($t, $sidecar, $road, $made) = @$self{qw(t sidecar road made)};
    my $count = sub ($from) { $sidecar->sql_value("SELECT count(*) FROM $from") };
    $t->write_file('enough', '');
    my $summary = $road->finish_publisher($self->{publisher});
    $self->end_leases;
    $sidecar->serve->wait_until_healthy(60);
    $road->wait_until_delivered(120);
    my $account = $road->account;
    is $account->{persisted_once}, $summary->{accepted}, 'every 201 is in the store exactly once, byte for byte';
    is_deeply $account->{wrong}, [], 'none is missing, doubled or altered';
    is $account->{delivered}, $summary->{accepted}, 'every 201 was delivered at least once';
    is $account->{verified}, $account->{received}, 'every delivery verified';

    $t->wait_for('the replays to end', sub { !$count->("replays WHERE state <> 'done'") }, 60);
    is_deeply [$sidecar->sql('SELECT r.id, r.made, r.total, count(d.id) AS deliveries, count(DISTINCT d.event_id) AS events FROM replays r'
        . ' LEFT JOIN deliveries d ON d.replay_id = r.id GROUP BY r.id, r.made, r.total'
        . ' HAVING r.made <> count(d.id) OR r.made <> count(DISTINCT d.event_id) OR r.made <> r.total')], [], 'each replay made each delivery once';
    is $count->("events WHERE via = 'system' AND type = 'webhook.disabled'"), $made->{outbox}, 'each operational event was made once';
    is $count->('system_outbox'), 0, 'and none waits';
    $t->wait_for('the old events to be forgotten', sub { !$count->("events WHERE type = 'old.one'") }, 60);
    is $count->('deliveries WHERE created_at = 1000'), 0, 'with their deliveries';
    $t->wait_for('the projections to be done', sub { !$count->('projections') }, 60);
    my $redis     = $sidecar->redis;
    my %projected = map { $redis->command('HGET', $_, 'id') => 1 } map { @$_ } $redis->command('KEYS', 'headgate:key:*');
    is_deeply [grep { !$projected{$_} } ($made->{keys} // [])->@*], [], 'every key that was made is in Redis';
    is $count->('quarantine'), 0, 'nothing was broken';
    diag $road->report($account);
}

1;
