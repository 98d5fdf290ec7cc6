# Two and three `headgate serve` on one PostgreSQL and one Redis: even shares, each delivery once in the normal case, and
# at most twelve seconds without an owner when one is killed or stopped.
use v5.36;
use Test::More;
use Time::HiRes qw(time);

use Headgate::Credentials qw(json);
use Headgate::Http;
use Headgate::Instances;
use Headgate::Postgres;
use Headgate::Receiver;
use Headgate::Test;

Headgate::Postgres->need;

my $t        = Headgate::Test->new;
my $postgres = Headgate::Postgres->start($t);
my $redis    = $t->redis;
my $receiver = Headgate::Receiver->start($t);
my $first    = $t->sidecar(redis => $redis, store => $postgres->url)->serve->wait_until_healthy;
my @paths    = map { "w$_" } 1 .. 24;
my $api      = Headgate::Http->connect(port => $first->port);
for my $path (@paths) {
    my $answer = $api->request(
        'POST', '/api/webhooks', headers => ['X-API-Key' => $first->api_key, 'Content-Type' => 'application/json'],
        body => json({ url => $receiver->url($path), events => ['order.*'] }),
    );
    $t->die_with_logs('POST /api/webhooks: ' . $answer->status) if $answer->status != 201;
}
my $all = Headgate::Instances->new($t, sidecar => $first, front => $first->front, receiver => $receiver, shards => 8, publish_some => \&publish);

sub publish ($count = 1) { $all->publish(\@paths, type => 'order.created') for 1 .. $count }

# ---- instances come ----------------------------------------------------------------------------

$all->publish_until_shared_by('the first to own everything', 10, $first->process);
my $second = $all->start('second');
$all->publish_until_shared_by('two to share evenly', 20, $first->process, $second);
my $third = $all->start('third');
$all->publish_until_shared_by('three to share evenly', 20, $first->process, $second, $third);
publish(20);
$all->wait_for_all(20);
is $all->repeated, 0, 'each delivery was made once while instances came' or diag explain $all->shares;
is $all->health($_)->status, 200, 'the ' . $_->name . ' is healthy with its share' for $second, $third;

# ---- one ends cleanly --------------------------------------------------------------------------

publish(20);
$third->stop;
is $third->status, 0, 'the third ended cleanly';
$all->publish_until_shared_by('two to share evenly again', 6, $first->process, $second);
$all->wait_for_all(10);
is $all->repeated, 0, 'and each delivery was made once';

# ---- one is stopped, and another killed ----------------------------------------------------------

my $fourth = $all->start('fourth');
$all->publish_until_shared_by('three to share evenly once more', 20, $first->process, $second, $fourth);
publish(20);
my $lost_at = time;
$second->signal('STOP');
$fourth->crash;
$all->publish_until_shared_by('the first to own everything, one being stopped and the other dead', 16, $first->process);
$all->wait_for_all(10);
my $waited = $all->longest_wait($lost_at);
cmp_ok $waited, '<=', 12, 'SIGSTOP of one and SIGKILL of another cost at most 12 seconds';
diag sprintf 'SIGSTOP and SIGKILL: the longest wait was %.1f s, repeated deliveries %d of %d', $waited, $all->repeated, $all->deliveries;
$second->signal('CONT');
$all->publish_until_shared_by('two to share evenly after SIGCONT', 20, $first->process, $second);
$all->wait_for_all(10);

# ---- the account -------------------------------------------------------------------------------

$t->wait_for('everything to be recorded', sub { $postgres->sql("SELECT count(*) FROM deliveries WHERE state = 'success'") == $all->deliveries }, 10);
is $postgres->sql('SELECT count(*) FROM events'), $all->events, 'each event is there once';
is $postgres->sql('SELECT count(*) FROM deliveries'), $all->deliveries, 'with one delivery for each webhook';
is $postgres->sql(q{SELECT count(*) FROM (SELECT delivery_id FROM attempts WHERE outcome = 'success' GROUP BY delivery_id HAVING count(*) > 1) twice}), 0,
    'no late instance recorded what the new owner had recorded';
is $postgres->sql('SELECT count(*) FROM quarantine'), 0, 'nothing was broken';

$t->done;
