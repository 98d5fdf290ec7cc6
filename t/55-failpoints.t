# headgate-failpoints killed by SIGKILL at each of its named places under load, on SQLite: nothing answered 201 is lost,
# doubled in the store or altered, and what runs beside events (projection, operational events, replays, retention) is done
# whole and once. HEADGATE_FAILPOINT_HITS, HEADGATE_FAILPOINT_SEED: t/lib/Headgate/Failpoints.pm.
use v5.36;
use Test::More;

use Headgate::Failpoints;
use Headgate::Test;

my $t       = Headgate::Test->new;
my $sidecar = $t->sidecar->serve->wait_until_healthy;
-x $sidecar->executable_with_failpoints or BAIL_OUT('build/headgate-failpoints is missing: make failpoints');
my $failpoints = Headgate::Failpoints->start($t, $sidecar, hits => 2, publisher => { concurrency => 8 });
$failpoints->kill_at;
$failpoints->settle;

$t->done;
