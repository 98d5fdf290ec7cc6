# The SQLite store's disk fails while events are published: it is full, it is slow, it may not be written at start. What
# arrives meanwhile stays in Redis, memory stays what it was, /health says why, and all goes on by itself: every 201 is
# persisted once and delivered. Other faults: t/67-store-refuses.t, t/65-store-read-only.t.
use v5.36;
use Test::More;

use Headgate::Faults;
use Headgate::Test;

my $t     = Headgate::Test->new;
my $redis = $t->redis;

# A disk of its own where mounting is permitted. Elsewhere no file may grow any further, which is another error of SQLite's.
my $disk      = $t->dir('disk');
my $is_disk   = $> == 0 && system("mount -t tmpfs -o size=64m tmpfs $disk 2>/dev/null") == 0;
sub unmount () { system "umount", "-l", $disk if $is_disk; $is_disk = 0; return }
END { unmount() }
diag $is_disk ? 'the disk is a tmpfs' : 'no mounting here: RLIMIT_FSIZE instead of a full disk';

my $sidecar = $t->sidecar(redis => $redis, store => "sqlite:$disk/headgate.db");
$sidecar->{database} = "$disk/headgate.db";
-x $sidecar->executable_with_failpoints or BAIL_OUT('build/headgate-failpoints is missing: make failpoints');
$sidecar->serve->wait_until_healthy;
my $faults = Headgate::Faults->start($t, $sidecar);
my $road   = $faults->road;

# ---- the disk is full --------------------------------------------------------------------------------

$faults->mark_log;
if ($is_disk) {
    system "cat /dev/zero > $disk/filler 2>/dev/null";
}
else {
    my ($largest) = sort { $b <=> $a } map { -s } glob "$disk/headgate.db*";
    system('prlimit', '--pid', $sidecar->process->pid, "--fsize=$largest:unlimited") == 0 or die 'prlimit';
}
$faults->is_held_back(
    'full', error => 'event=ingest\.persist_failed .*' . ($is_disk ? 'full' : 'disk I/O error: File too large'),
    health => qr/the store has refused to be written for \d+ ms; the limit is 5000 ms/,
);
if ($is_disk) { unlink "$disk/filler" or die "unlink: $!" }
else          { system('prlimit', '--pid', $sidecar->process->pid, '--fsize=unlimited:unlimited') == 0 or die 'prlimit' }
$faults->goes_on('full');
$faults->is_sent_once('full');
$sidecar->wait_until_healthy;

# ---- a slow disk --------------------------------------------------------------------------------------

# Stopped and started again while events come in: each commit takes half a second from here on.
my $stopped = $sidecar->process->stop;
is $stopped, undef, 'a stop in time with work in flight';
$sidecar->serve_until('before_commit=sleep500,in_record=sleep500');
$t->wait_for_port($sidecar->port, $sidecar->process);
$t->wait_for('a first batch', sub { $sidecar->process->log_text =~ /event=ingest\.batch/ });
my $rss = $faults->resident_kib;
my $received = $road->received_count;
$t->wait_for('deliveries by a slow disk', sub { $road->received_count >= $received + 80 }, 30);
cmp_ok $faults->resident_kib - $rss, '<', 32 * 1024, 'slow: memory stays bounded';
my $health = $faults->health;
is $health->[0], 200, 'slow: /health is good all the same' or diag $health->[1];
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
$faults->goes_on('started again');

$faults->settle;
$t->on_teardown(\&unmount);

$t->done;
