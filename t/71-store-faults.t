# The SQLite store fails while events are published: its disk is full, another process has locked it for longer than we wait,
# its disk is slow, it may not be written at start, it refuses the log of attempts. What arrives meanwhile stays in Redis,
# memory stays what it was, /health says why, and all goes on by itself: every 201 is persisted once and delivered.
use v5.36;
use Test::More;

use Headgate::Http;
use Headgate::Reconcile;
use Headgate::Test;

my $t     = Headgate::Test->new;
my $redis = $t->redis;

# A disk of its own where mounting is permitted. Elsewhere no file may grow any further, which is another error of SQLite's.
$SIG{XFSZ} = 'IGNORE';    # inherited
my $disk      = $t->dir('disk');
my $is_disk   = $> == 0 && system("mount -t tmpfs -o size=64m tmpfs $disk 2>/dev/null") == 0;
sub unmount () { system "umount", "-l", $disk if $is_disk; $is_disk = 0; return }
END { unmount() }
diag $is_disk ? 'the disk is a tmpfs' : 'no mounting here: RLIMIT_FSIZE instead of a full disk';

my $sidecar = $t->sidecar(redis => $redis, store => "sqlite:$disk/headgate.db");
$sidecar->{database} = "$disk/headgate.db";
-x $sidecar->executable_with_failpoints or BAIL_OUT('build/headgate-failpoints is missing: make failpoints');
$sidecar->serve->wait_until_healthy;
my $front     = $sidecar->front;
my $road      = Headgate::Reconcile->new($t, $sidecar);
my $publisher = $road->start_publisher(
    url => 'http://127.0.0.1:' . $front->port . '/events', until => $t->path('enough'), concurrency => 3, pause_ms => 10, bytes_max => 1500,
);

sub health () { my $a = Headgate::Http->connect(port => $sidecar->port)->request('GET', '/health'); [$a->status, join ' ', ($a->json->{reasons} // [])->@*] }
sub stored () { $sidecar->sql_value('SELECT count(*) FROM events') }
sub resident_kib () { my ($kib) = $t->read_file('/proc/' . $sidecar->process->pid . '/status') =~ /^VmRSS:\s+(\d+)/m; $kib }
sub progress ($what) {
    my ($accepted, $received) = ($road->accepted_count, $road->received_count);
    $t->wait_for("progress $what", sub { $road->accepted_count >= $accepted + 50 && $road->received_count >= $received + 30 }, 30);
}
my $log_at = 0;
sub log_since () { substr $sidecar->process->log_text, $log_at }
sub mark_log ()  { $log_at = length $sidecar->process->log_text }

# While the store is away: it refuses with this error, publishing goes on, Redis keeps, memory does not grow.
sub is_held_back ($name, $error) {
    $t->wait_for("$name: the store to refuse", sub { log_since() =~ /$error/ }, 30);
    my ($before, $rss, $accepted) = (stored(), resident_kib(), $road->accepted_count);
    $t->wait_for("$name: events published meanwhile", sub { $road->accepted_count >= $accepted + 100 }, 30);
    is stored(), $before, "$name: nothing is stored meanwhile";
    cmp_ok $redis->event_count, '>=', 100, "$name: what was answered 201 waits in Redis";
    cmp_ok resident_kib() - $rss, '<', 16 * 1024, "$name: memory does not grow";
}
sub goes_on ($name) {
    my $accepted = $road->accepted_count;
    $t->wait_for("$name: all that waited to be stored", sub { stored() >= $accepted }, 30);
    progress("after $name");
    pass "$name: all goes on by itself";
}

progress('at first');

# ---- the disk is full --------------------------------------------------------------------------------

mark_log();
if ($is_disk) {
    system "cat /dev/zero > $disk/filler 2>/dev/null";
}
else {
    my ($largest) = sort { $b <=> $a } map { -s } glob "$disk/headgate.db*";
    system('prlimit', '--pid', $sidecar->process->pid, "--fsize=$largest:unlimited") == 0 or die 'prlimit';
}
is_held_back('full', 'event=ingest\.persist_failed .*' . ($is_disk ? 'full' : 'disk I/O error'));
$t->wait_for('/health to tell of it', sub { health()->[0] == 503 });
like health()->[1], qr/the store has refused events or results for \d+ ms; the limit is 5000 ms/, 'full: /health says why';
if ($is_disk) { unlink "$disk/filler" or die "unlink: $!" }
else          { system('prlimit', '--pid', $sidecar->process->pid, '--fsize=unlimited:unlimited') == 0 or die 'prlimit' }
goes_on('full');
$sidecar->wait_until_healthy;

# ---- locked by another process ------------------------------------------------------------------------

mark_log();
open(my $lock, '|-', 'sqlite3', '-cmd', '.timeout 10000', $sidecar->{database}) // die $!;
$lock->autoflush(1);
print $lock "BEGIN IMMEDIATE;\n.shell touch @{[ $t->path('locked') ]}\n";
$t->wait_for('the lock', sub { -e $t->path('locked') });
is_held_back('locked', 'database is locked');
print $lock "COMMIT;\n";
close $lock;
goes_on('locked');

# ---- the log of attempts is refused --------------------------------------------------------------------

mark_log();
my $attempts = sub { $sidecar->sql_value('SELECT count(*) FROM attempts') };
$sidecar->change("CREATE TRIGGER no_log BEFORE INSERT ON attempts BEGIN SELECT RAISE(ABORT, 'no log'); END");
my $without = $attempts->();
progress('without a log of attempts');
my @published = map { $_->{id} } $road->lines($road->{sent});
$t->wait_for('every delivery to be settled', sub { !$sidecar->sql_value("SELECT count(*) FROM deliveries WHERE event_id <= '$published[-1]' AND state <> 'success'") });
is $attempts->(), $without, 'no log: no attempt is written down';
like log_since(), qr/delivery\.record_refused .*no log/, 'no log: an error says so';
$sidecar->change('DROP TRIGGER no_log');
goes_on('no log');
my %times;
$times{ $_->{id} }++ for $road->lines($road->{received});
is scalar(grep { $_ > 1 } values %times), 0, 'no log: nothing was sent twice, whatever failed';

# ---- a slow disk --------------------------------------------------------------------------------------

# Stopped and started again while events come in: each commit takes half a second from here on.
my $stopped = $sidecar->process->stop;
is $stopped, undef, 'a stop in time with work in flight';
$sidecar->serve_until('before_commit=sleep500,in_record=sleep500');
$t->wait_for_port($sidecar->port, $sidecar->process);
$t->wait_for('a first batch', sub { $sidecar->process->log_text =~ /event=ingest\.batch/ });
my $rss = resident_kib();
my $received = $road->received_count;
$t->wait_for('deliveries by a slow disk', sub { $road->received_count >= $received + 80 }, 30);
cmp_ok resident_kib() - $rss, '<', 32 * 1024, 'slow: memory stays bounded';
is health()->[0], 200, 'slow: /health is good all the same' or diag health()->[1];
is $sidecar->process->stop, undef, 'slow: it stops in time';

# ---- a file that may not be written ---------------------------------------------------------------------

if ($is_disk) {
    system("mount -o remount,ro $disk") == 0 or die 'remount';
    my $refused = $t->start(name => 'read-only', command => [$sidecar->executable, 'serve', '--config', $sidecar->config]);
    $refused->wait(10) or $t->die_with_logs('it runs on a disk that cannot be written');
    is $refused->status >> 8, 1, 'read-only: it does not start';
    like $refused->log_text, qr/^headgate: .*(?:Read-only file system|readonly|read-only|unable to open)/im, '... and says why';
    cmp_ok $redis->event_count, '>', 0, 'read-only: Redis keeps';
    $t->forget($refused);
    system("mount -o remount,rw $disk") == 0 or die 'remount';
}
$sidecar->serve->wait_until_healthy;
goes_on('started again');

# ---- the account ------------------------------------------------------------------------------------------

$t->write_file('enough', '');
my $summary = $road->finish_publisher($publisher);
$road->wait_until_delivered(60);
my $account = $road->account;
is_deeply [grep { !/\A(?:201|503)\z/ } keys $summary->{statuses}->%*], [], 'the edge answered 201 or 503, nothing else';
is $account->{persisted_once}, $summary->{accepted}, 'every 201 is in SQLite exactly once, byte for byte';
is_deeply $account->{wrong}, [], 'none is missing, doubled or altered';
is $account->{delivered}, $summary->{accepted}, 'every 201 was delivered';
is $sidecar->sql_value('SELECT count(*) FROM quarantine'), 0, 'no event was blamed';
$t->wait_for('the streams to be empty', sub { $redis->event_count == 0 });
diag $road->report($account);
$t->on_teardown(\&unmount);

$t->done;
