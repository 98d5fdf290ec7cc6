# The SQLite store can no longer be written while `headgate serve` runs: its directory is moved away, its files may not grow,
# they are made immutable. Nothing is lost, nothing is sent twice, no endpoint is flooded with what cannot be recorded,
# and all goes on by itself when it can be written again.
use v5.36;
use Test::More;

use Headgate::Faults;
use Headgate::Test;

my $MAX_IN_FLIGHT = 4;

my $t       = Headgate::Test->new;
my $store   = $t->dir('store');
my $sidecar = $t->sidecar(store => "sqlite:$store/headgate.db");
$sidecar->{database} = "$store/headgate.db";
# A short log: it is a file as well, and has to grow when the others may not.
$sidecar->configure(max_in_flight => $MAX_IN_FLIGHT, level => '"warn"');
$sidecar->serve->wait_until_healthy;
my $faults = Headgate::Faults->start($t, $sidecar, second => [200, 200], webhooks => 3);

# What was sent and cannot be recorded is bounded, the rest waits.
my $REQUESTS_MAX = 4 * $MAX_IN_FLIGHT + $MAX_IN_FLIGHT;
sub is_refused ($name, $error, %args) {
    $faults->is_held_back($name, error => "event=ingest\\.persist_failed .*$error", requests_max => $REQUESTS_MAX, %args);
    $faults->is_told_once($name, 'ingest.persist_failed', 'delivery.store_failed', 'leases_failed');
}

# ---- moved away: what is written then, nobody would find again --------------------------------------------

# As many deliveries as memory holds wait for the slow endpoint. When it becomes a fast one, they could all be sent.
my $in_memory = sub {
    my ($key) = $sidecar->redis->command('KEYS', 'headgate:status:sidecar:*')->@*;
    return { $sidecar->redis->command('HGETALL', $key // '')->@* }->{in_memory} // 0;
};
$t->wait_for('memory to be full of deliveries', sub { $in_memory->() >= 6 * $MAX_IN_FLIGHT });
$faults->mark_log;
rename $store, "$store.away" or die "rename: $!";
$sidecar->{database} = "$store.away/headgate.db";
is_refused('moved', 'the database was moved, deleted or replaced', meanwhile => sub { $faults->answer(200) });
$faults->answer(500);
rename "$store.away", $store or die "rename: $!";
$sidecar->{database} = "$store/headgate.db";
$faults->goes_on('moved');

# ---- no file may grow --------------------------------------------------------------------------------------

sub limit_files ($bytes) { system('prlimit', '--pid', $sidecar->process->pid, "--fsize=$bytes:unlimited") == 0 or die 'prlimit' }

$faults->mark_log;
limit_files(128 * 1024);
is_refused('limited', 'disk I/O error: File too large');
limit_files('unlimited');
$faults->goes_on('limited');

# ---- immutable: not even through a file that is open --------------------------------------------------------

my @immutable;
sub thaw () { system 'chattr', '-i', splice @immutable if @immutable; return }
END { thaw() }
$t->on_stop(\&thaw);

sub why_not_immutable () {
    my $path = $t->write_file('store/probe', '');
    open my $probe, '>>', $path or die "$path: $!";
    return 'chattr +i is refused here' if system("chattr +i $path 2>/dev/null") != 0;
    my $is_written = defined syswrite $probe, 'x';
    system("chattr -i $path") == 0 or die 'chattr -i';
    return $is_written ? 'this file system writes to an open file that is immutable' : undef;
}

SKIP: {
    my $why_not = why_not_immutable();
    skip $why_not, 1 if $why_not;
    $faults->mark_log;
    @immutable = glob "$store/headgate.db $store/headgate.db-wal";
    system('chattr', '+i', @immutable) == 0 or die 'chattr +i';
    is_refused('immutable', 'disk I/O error: Operation not permitted');
    thaw();
    $faults->goes_on('immutable');
}

my $account = $faults->settle;
is $account->{duplicates}, 0, 'and nothing was delivered twice';

# ---- when there is nothing to write -----------------------------------------------------------------------------

# It can be read, and locked for writing: only that it cannot be written tells of it.
$faults->disable_second;
$sidecar->wait_until_healthy;
limit_files(0);
$faults->is_unhealthy('idle', qr/\Athe store has refused to be written for \d+ ms; the limit is 5000 ms\z/);
limit_files('unlimited');
$sidecar->wait_until_healthy;

$t->done;
