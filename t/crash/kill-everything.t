# The long crash run (`make crash`): workers of nginx, every `headgate`, Redis (AOF, appendfsync always) and PostgreSQL are
# killed by SIGKILL at random moments while events are published; then every 201 in the publisher's own file is
# looked for, by id, in the store and in the receiver's own file. Two worlds: one `headgate` on SQLite, and two that share one
# PostgreSQL and one Redis.
#
#   N_EVENTS=100000 KILLS=100   of both worlds together, at least: publishing goes on until the last kill
#   SEED=                       of which process is killed when; printed
#   WORLDS="sqlite postgres"   CONCURRENCY=32
use v5.36;
use List::Util qw(min shuffle);
use Test::More;
use Time::HiRes qw(sleep time);

use Headgate::Postgres;
use Headgate::Reconcile;
use Headgate::Test;

my $events = $ENV{N_EVENTS} || 100_000;
my $kills  = $ENV{KILLS}    || 100;
my $seed   = $ENV{SEED}     || (time ^ $$) % 1_000_000;
my @worlds = split ' ', $ENV{WORLDS} || 'sqlite postgres';
/\A[1-9][0-9]*\z/ or die "not a positive whole number: $_\n" for $events, $kills, $seed;
srand $seed;
diag "SEED=$seed N_EVENTS=$events KILLS=$kills WORLDS='@worlds'";

my %total;
my $refused_starts = 0;    # PostgreSQL was away
my %wanted = (worker => 3, headgate => 5, redis => 2, postgres => 2);    # how often a kind is chosen

for my $index (0 .. $#worlds) {
    # The last world takes what does not divide evenly.
    my $share = sub ($whole) { int($whole / @worlds) + ($index == $#worlds ? $whole % @worlds : 0) };
    subtest $worlds[$index] => sub { run_world($worlds[$index], $share->($events), $share->($kills)) };
}
my $kinds = join ', ', map { "$_ $total{kills}{$_}" } sort keys $total{kills}->%*;
diag sprintf "lost = %d of %d events answered 201; %d duplicates, with the same id; longest wait %.1f s; killed: %s; starts again because PostgreSQL was away: %d (SEED=%d)", $total{lost},
    $total{accepted}, $total{duplicates}, $total{longest_wait_ms} / 1000, $kinds, $refused_starts, $seed;
is $total{lost}, 0, 'lost = 0';
done_testing();

# One `headgate serve` on the files of `init`: { name, port, process, start_at }.
sub start_instance ($t, $sidecar, $instance) {
    $t->forget($instance->{process}) if $instance->{process};
    delete $instance->{start_at};
    $instance->{process} = $t->start(
        name => $instance->{name}, command => [$sidecar->executable, 'serve', '--config', $sidecar->config], stop_seconds => 20,
        env  => { HEADGATE_HTTP_LISTEN => "127.0.0.1:$instance->{port}", HEADGATE_LOG_LEVEL => 'warn' },
    );
}

# What a supervisor does (headgate.service says Restart=): starts again what was killed, a moment later, and what could not
# start because PostgreSQL was away at that moment. One that ended by itself in any other way is a failure.
sub supervise ($t, $sidecar, $instances) {
    for my $instance (@$instances) {
        if (defined $instance->{start_at}) {
            start_instance($t, $sidecar, $instance) if time >= $instance->{start_at};
        }
        elsif (!$instance->{process}->alive) {
            my ($last) = (split /\n/, $instance->{process}->log_text)[-1] // '';
            if ($instance->{process}->status == 1 << 8 && $last =~ /^headgate: PostgreSQL: /) {
                $instance->{start_at} = time + 0.3;
                $refused_starts++;
                next;
            }
            $t->die_with_logs("$instance->{name} ended by itself: " . $instance->{process}->describe_exit);
        }
    }
}

sub run_world ($world, $events, $kills) {
    my $t        = Headgate::Test->new;
    my $redis    = $t->redis;
    my $postgres = $world eq 'postgres' ? Headgate::Postgres->start($t) : undef;
    my $sidecar  = $t->sidecar(redis => $redis, $postgres ? (postgres => $postgres) : ());
    my @instances = map { { name => "headgate-$_", port => $_ == 1 ? $sidecar->port : $t->port } } 1 .. ($postgres ? 2 : 1);
    start_instance($t, $sidecar, $_) for @instances;
    $sidecar->wait_until_healthy(60);
    my $front = $sidecar->front(workers => 2);
    $front->expect_alarms(qr/worker process \d+ exited on signal 9/, qr/was locked by/);
    my $road      = Headgate::Reconcile->new($t, $sidecar);
    my $publisher = $road->start_publisher(
        url => 'http://127.0.0.1:' . $front->port . '/events', until => $t->path('enough'), bytes_max => 4000, concurrency => $ENV{CONCURRENCY} || 32,
    );

    my %kill = (
        worker => sub {
            my @pids = $front->worker_pids or return 0;
            return kill 'KILL', $pids[rand @pids];
        },
        headgate => sub {
            my @running = grep { !defined $_->{start_at} } @instances or return 0;
            my $instance = $running[rand @running];
            $instance->{process}->crash;
            $instance->{start_at} = time + rand 1.5;
            return 1;
        },
        redis => sub { $redis->crash; sleep rand 0.5; $redis->restart; return 1 },
        ($postgres ? (postgres => sub { $postgres->crash; sleep rand 0.5; $postgres->restart; return 1 }) : ()),
    );
    # Each kind once at least; the rest by weight. At random numbers of accepted events.
    my @kinds  = sort keys %kill;
    my @by_weight = map { ($_) x $wanted{$_} } @kinds;
    my @victims = shuffle(@kinds[0 .. min($#kinds, $kills - 1)], map { $by_weight[rand @by_weight] } @kinds + 1 .. $kills);
    my @moments = sort { $a <=> $b } map { rand $events * 0.97 } @victims;
    my (%killed, $told_at);
    while (1) {
        supervise($t, $sidecar, \@instances);
        my $accepted = $road->accepted_count;
        if (@victims && $accepted >= $moments[0]) {
            sleep rand 0.2;
            if ($kill{ $victims[0] }->()) {
                $killed{ shift @victims }++;
                shift @moments;
            }
        }
        if (time - ($told_at // 0) > 10) {
            $told_at = time;
            my $made = 0;
            $made += $_ for values %killed;
            diag sprintf '%s: %d of %d events accepted, %d deliveries received, %d of %d kills', $world, $accepted, $events, $road->received_count, $made, $kills;
        }
        $t->die_with_logs('the publisher ended by itself: ' . $publisher->describe_exit) if !$publisher->alive;
        last if !@victims && $accepted >= $events;
        sleep 0.02;
    }
    $t->write_file('enough', '');
    my $summary = $road->finish_publisher($publisher, 60);
    $t->wait_for('all instances to be back', sub { supervise($t, $sidecar, \@instances); !grep { defined $_->{start_at} } @instances }, 10);
    $road->wait_until_delivered(900);

    my $account = $road->account;
    is_deeply [grep { !/\A(?:201|503)\z/ } keys $summary->{statuses}->%*], [], 'the edge answered 201 or 503, nothing else';
    is $account->{accepted}, $summary->{accepted}, 'the publisher wrote down every 201';
    is $account->{persisted_once}, $account->{accepted}, 'every 201 is in the store exactly once, byte for byte';
    is $account->{delivered}, $account->{accepted}, 'every 201 was delivered at least once';
    is_deeply $account->{wrong}, [], 'none is missing, doubled or altered';
    is $account->{verified}, $account->{received}, 'every delivery verified';
    for my $kind (@kinds) {
        $total{kills}{$kind} += $killed{$kind} // 0;
        diag sprintf '  killed %-9s %d times', $kind, $killed{$kind} // 0;
    }
    diag $road->report($account);
    $total{$_} += $account->{$_} for qw(accepted duplicates);
    $total{lost} += $account->{accepted} - min($account->{persisted_once}, $account->{delivered});
    $total{longest_wait_ms} = $account->{longest_wait_ms} if $account->{longest_wait_ms} > ($total{longest_wait_ms} // 0);
    $t->done;
}
