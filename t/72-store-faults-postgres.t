# PostgreSQL stands still (SIGSTOP of all its processes) and is killed and started again while events are published: what
# arrives meanwhile stays in Redis, memory stays what it was, /health says why, and all goes on by itself: every 201 is
# persisted once and delivered. t/66-store-read-only-postgres.t makes it read-only.
use v5.36;
use Test::More;

use Headgate::Faults;
use Headgate::Postgres;
use Headgate::Test;

Headgate::Postgres->need;

my $t        = Headgate::Test->new;
my $postgres = Headgate::Postgres->start($t);
my $sidecar  = $t->sidecar(redis => $t->redis, postgres => $postgres)->serve->wait_until_healthy;
my $faults   = Headgate::Faults->start($t, $sidecar);

# All its processes, the first one included.
sub signal_postgres ($signal) {
    my $pid = $postgres->process->pid;
    my @children = split ' ', $t->read_file("/proc/$pid/task/$pid/children");
    kill $signal, $pid, @children;
}

signal_postgres('STOP');
$faults->is_held_back('stopped', health => qr/the store (?:could not be read and written|has refused to be written) for \d+ ms; the limit is 5000 ms/);
signal_postgres('CONT');
$faults->goes_on('stopped');

$postgres->crash;
$faults->accepted(100, 'events published without PostgreSQL');
$postgres->restart;
$faults->goes_on('killed');
$sidecar->wait_until_healthy;

# A commit that nobody heard of: each connection is cut where it stands, many times, under load.
for my $round (1 .. 9) {
    $faults->accepted(15, 'some progress');
    $postgres->sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'headgate' AND state <> 'idle'");
    $postgres->sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'headgate'") if $round % 3 == 0;
}
$faults->goes_on('connections cut');

$faults->settle;
# A claim whose commit was in doubt was taken back, not left in flight until the next start.
$t->wait_for('every delivery to be settled', sub { !$postgres->sql("SELECT count(*) FROM deliveries WHERE state <> 'success'") }, 30);
pass 'nothing is left in flight';

$t->done;
