# PostgreSQL takes no writes any more while `headgate serve` runs, as when somebody has made it read-only, or a standby
# answers at its address. Nothing is lost, nothing is sent twice, no endpoint is flooded with what cannot be recorded, and
# all goes on by itself when it takes writes again.
use v5.36;
use Test::More;

use Headgate::Faults;
use Headgate::Postgres;
use Headgate::Test;

my $executable = $ENV{HEADGATE_BIN} // Headgate::Test->root . '/build/headgate';
plan skip_all => 'this headgate was built without PostgreSQL' if qx(ldd $executable) !~ /libpq/;
plan skip_all => 'PostgreSQL is not installed' if !glob '/usr/lib/postgresql/*/bin/initdb';

my $MAX_IN_FLIGHT = 4;

my $t        = Headgate::Test->new;
my $postgres = Headgate::Postgres->start($t);
my $sidecar  = $t->sidecar(postgres => $postgres)->configure(max_in_flight => $MAX_IN_FLIGHT);
$sidecar->serve->wait_until_healthy;
my $faults = Headgate::Faults->start($t, $sidecar, second => [500]);

sub set_read_only ($value) {
    $postgres->sql("ALTER SYSTEM SET default_transaction_read_only = $value");
    $postgres->sql('SELECT pg_reload_conf()');
}
my $connections = q{FROM pg_stat_activity WHERE application_name = 'headgate'};

# What was sent and cannot be recorded is bounded, the rest waits.
my $REQUESTS_MAX = 4 * $MAX_IN_FLIGHT + $MAX_IN_FLIGHT;

# ---- under open connections ---------------------------------------------------------------------------------

$faults->mark_log;
set_read_only('on');
$faults->is_held_back(
    'read-only', error => 'event=ingest\.persist_failed .*read-only', requests_max => $REQUESTS_MAX,
    health => qr/the store .* for \d+ ms; the limit is 5000 ms/,
);
like $faults->log_since, qr/cannot execute .* in a read-only transaction \(25006\)/, 'read-only: the log says why';
# The first error is the transaction's, the second that no server takes writes.
$faults->is_told_once('read-only', 'ingest.persist_failed', 'delivery.store_failed', 'leases_failed');
set_read_only('off');
$faults->goes_on('read-only');
$sidecar->wait_until_healthy;

# ---- and the connections are cut, as a failover does ----------------------------------------------------------

$faults->mark_log;
set_read_only('on');
$postgres->sql("SELECT count(pg_terminate_backend(pid)) $connections");
$faults->is_held_back('standby', error => 'event=ingest\.persist_failed .*session is read-only', requests_max => $REQUESTS_MAX);
is $postgres->sql("SELECT count(*) $connections AND backend_type = 'client backend' AND state IS DISTINCT FROM 'idle' AND query LIKE 'INSERT%'"), 0, 'standby: nothing is written through it';
set_read_only('off');
$faults->goes_on('standby');

my $account = $faults->settle;
is $account->{duplicates}, 0, 'and nothing was delivered twice';
$sidecar->wait_until_healthy;

$t->done;
