# The same corpus, again and again, while `headgate serve` is killed ten times, Redis (AOF, appendfsync always) and
# a worker of nginx twice, by SIGKILL: every event that was answered 201 is persisted once and
# delivered at least once, byte for byte. What was not answered may be missing. `make crash` is the long form, with PostgreSQL too.
use v5.36;
use Test::More;

use Headgate::Reconcile;
use Headgate::Test;

my $t       = Headgate::Test->new;
my $redis   = $t->redis;
my $sidecar = $t->sidecar(redis => $redis)->serve->wait_until_healthy;
my $front   = $sidecar->front(workers => 2);
$front->expect_alarms(qr/worker process \d+ exited on signal 9/);
my $road    = Headgate::Reconcile->new($t, $sidecar);

my $publisher = $road->start_publisher(url => 'http://127.0.0.1:' . $front->port . '/events', until => $t->path('enough'));

# Each kill waits for progress since the last one, not for time, so that it always hits work.
my ($kills, $redis_kills, $worker_kills) = (0, 0, 0);
for my $round (1 .. 10) {
    my ($accepted, $received) = ($road->accepted_count, $road->received_count);
    $t->wait_for("progress before kill $round", sub { $road->accepted_count >= $accepted + 60 && $road->received_count >= $received + 20 }, 60);
    $sidecar->crash;
    $kills++;
    if ($round == 4 || $round == 8) {
        $redis->crash;
        $redis->restart;
        $redis_kills++;
    }
    if ($round == 3 || $round == 6) {
        my ($worker) = $front->worker_pids;
        $worker_kills += kill 'KILL', $worker;
        $t->wait_for('another worker', sub { my @pids = $front->worker_pids; @pids == 2 && !grep { $_ == $worker } @pids });
    }
    $sidecar->serve;
}
$t->write_file('enough', '');
my $summary = $road->finish_publisher($publisher);
is $kills, 10, 'headgate serve was killed ten times';
is $redis_kills, 2, 'Redis was killed and restarted twice';
is $worker_kills, 2, 'a worker of nginx was killed twice';
is_deeply [grep { !/\A(?:201|503)\z/ } keys $summary->{statuses}->%*], [], 'the edge answered 201 or 503, nothing else' or diag explain $summary;

$sidecar->wait_until_healthy(60);
$road->wait_until_delivered(180);
my $account = $road->account;
is $account->{persisted_once}, $summary->{accepted}, 'every 201 is in SQLite exactly once, byte for byte';
is_deeply $account->{wrong}, [], 'none is missing, doubled or altered';
is $account->{delivered}, $summary->{accepted}, 'every 201 was delivered at least once';
is $account->{verified}, $account->{received}, 'every delivery verified';
is $account->{stored_digest}, $account->{sent_digest}, 'what is stored is what was sent';
is $account->{received_digest}, $account->{sent_digest}, 'what was received is what was sent';
is $sidecar->sql_value('SELECT count(*) FROM quarantine'), 0, 'nothing was broken';
diag $road->report($account);

$t->done;
