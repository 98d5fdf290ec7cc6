# PostgreSQL stands still (SIGSTOP of all its processes) and is killed and started again while events are published: what
# arrives meanwhile stays in Redis, memory stays what it was, /health says why, and all goes on by itself: every 201 is
# persisted once and delivered.
use v5.36;
use Test::More;

use Headgate::Http;
use Headgate::Postgres;
use Headgate::Reconcile;
use Headgate::Test;

Headgate::Postgres->need;

my $t        = Headgate::Test->new;
my $postgres = Headgate::Postgres->start($t);
my $redis    = $t->redis;
my $sidecar  = $t->sidecar(redis => $redis, postgres => $postgres)->serve->wait_until_healthy;
my $front     = $sidecar->front;
my $road      = Headgate::Reconcile->new($t, $sidecar);
my $publisher = $road->start_publisher(
    url => 'http://127.0.0.1:' . $front->port . '/events', until => $t->path('enough'), concurrency => 3, pause_ms => 10, bytes_max => 1500,
);

sub health () { my $a = Headgate::Http->connect(port => $sidecar->port)->request('GET', '/health'); [$a->status, join ' ', ($a->json->{reasons} // [])->@*] }
sub stored () { $postgres->sql('SELECT count(*) FROM events') }
sub resident_kib () { my ($kib) = $t->read_file('/proc/' . $sidecar->process->pid . '/status') =~ /^VmRSS:\s+(\d+)/m; $kib }
sub progress ($what) {
    my ($accepted, $received) = ($road->accepted_count, $road->received_count);
    $t->wait_for("progress $what", sub { $road->accepted_count >= $accepted + 50 && $road->received_count >= $received + 30 }, 30);
}
sub is_held_back ($name) {
    $t->wait_for('/health to tell of it', sub { health()->[0] == 503 }, 20);
    like health()->[1], qr/the store (?:could not be read and written|has refused events or results) for \d+ ms; the limit is 5000 ms/, "$name: /health says why";
    my ($rss, $accepted) = (resident_kib(), $road->accepted_count);
    $t->wait_for("$name: events published meanwhile", sub { $road->accepted_count >= $accepted + 100 }, 30);
    cmp_ok $redis->event_count, '>=', 100, "$name: what was answered 201 waits in Redis";
    cmp_ok resident_kib() - $rss, '<', 16 * 1024, "$name: memory does not grow";
}
sub goes_on ($name) {
    my $accepted = $road->accepted_count;
    $t->wait_for("$name: all that waited to be stored", sub { stored() >= $accepted }, 30);
    progress("after $name");
    pass "$name: all goes on by itself";
}
# All its processes, the first one included.
sub signal_postgres ($signal) {
    my $pid = $postgres->process->pid;
    my @children = split ' ', $t->read_file("/proc/$pid/task/$pid/children");
    kill $signal, $pid, @children;
}

progress('at first');
signal_postgres('STOP');
is_held_back('stopped');
signal_postgres('CONT');
goes_on('stopped');

$postgres->crash;
my $accepted = $road->accepted_count;
$t->wait_for('events published without PostgreSQL', sub { $road->accepted_count >= $accepted + 100 }, 30);
$postgres->restart;
goes_on('killed');
$sidecar->wait_until_healthy;

# A commit that nobody heard of: each connection is cut where it stands, many times, under load.
for my $round (1 .. 9) {
    my $before = $road->accepted_count;
    $t->wait_for('some progress', sub { $road->accepted_count >= $before + 15 }, 30);
    $postgres->sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'headgate' AND state <> 'idle'");
    $postgres->sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'headgate'") if $round % 3 == 0;
}
goes_on('connections cut');

# ---- the account ------------------------------------------------------------------------------------------

$t->write_file('enough', '');
my $summary = $road->finish_publisher($publisher);
$road->wait_until_delivered(60);
my $account = $road->account;
is_deeply [grep { !/\A(?:201|503)\z/ } keys $summary->{statuses}->%*], [], 'the edge answered 201 or 503, nothing else';
is $account->{persisted_once}, $summary->{accepted}, 'every 201 is in PostgreSQL exactly once, byte for byte';
is_deeply $account->{wrong}, [], 'none is missing, doubled or altered';
is $account->{delivered}, $summary->{accepted}, 'every 201 was delivered';
is $postgres->sql('SELECT count(*) FROM quarantine'), 0, 'no event was blamed';
# A claim whose commit was in doubt was taken back, not left in flight until the next start.
$t->wait_for('every delivery to be settled', sub { !$postgres->sql("SELECT count(*) FROM deliveries WHERE state <> 'success'") }, 30);
pass 'nothing is left in flight';
$t->wait_for('the streams to be empty', sub { $redis->event_count == 0 });
diag $road->report($account);

$t->done;
