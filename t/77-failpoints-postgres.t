# The places inside transactions, on PostgreSQL: `headgate-failpoints` is killed by SIGKILL at each of them under load, and
# loses its leases in the middle of a batch: nothing answered 201 is lost, doubled or altered, and what runs beside events
# is done whole and once. t/55-failpoints.t has all places, on SQLite; with HEADGATE_FAILPOINT_HITS so has this.
use v5.36;
use Test::More;

use Headgate::Failpoints;
use Headgate::Postgres;
use Headgate::Test;

my $executable = $ENV{HEADGATE_FAILPOINTS_BIN} // Headgate::Test->root . '/build/headgate-failpoints';
-x $executable or BAIL_OUT('build/headgate-failpoints is missing: make failpoints');
Headgate::Postgres->need;

my $t          = Headgate::Test->new;
my $postgres   = Headgate::Postgres->start($t);
my $sidecar    = $t->sidecar(postgres => $postgres)->serve->wait_until_healthy;
my $failpoints = Headgate::Failpoints->start($t, $sidecar, hits => 1, publisher => { concurrency => 4, bytes_max => 4000 });
my @in_transactions = qw(before_commit after_commit_before_ack in_record after_record_before_release in_recover in_spread in_renew in_relay in_replay in_purge);
$failpoints->kill_at($ENV{HEADGATE_FAILPOINT_HITS} ? () : @in_transactions);
$failpoints->settle;

$t->done;
