# A real corpus travels the whole road: every example payload of @octokit/webhooks-examples, published
# concurrently by a Node client through nginx with an API key, persisted in SQLite byte for byte,
# delivered to a Node receiver that verifies each with the standardwebhooks package and node:crypto.
use v5.36;
use Test::More;

use Headgate::Reconcile;
use Headgate::Test;

my $t       = Headgate::Test->new;
my $sidecar = $t->sidecar->serve->wait_until_healthy;
my $front   = $sidecar->front;
my $road    = Headgate::Reconcile->new($t, $sidecar);

my $summary = $road->publish(url => 'http://127.0.0.1:' . $front->port . '/events');
cmp_ok $summary->{corpus}, '>=', 300, 'the corpus has hundreds of payloads';
is_deeply $summary->{statuses}, { 201 => $summary->{corpus} }, 'each of them was answered 201' or diag explain $summary;

$road->wait_until_delivered(120);
my $account = $road->account;
is $account->{persisted_once}, $summary->{corpus}, 'every 201 is in SQLite exactly once, with its payload byte for byte';
is_deeply $account->{wrong}, [], 'none is missing, doubled or altered';
is $account->{verified}, $account->{received}, 'every delivery verified: standardwebhooks and sha256=';
is $account->{delivered}, $summary->{corpus}, 'every 201 was delivered';
is $account->{duplicates}, 0, 'each of them once';
is $account->{received_digest}, $account->{sent_digest}, 'what was received is what was sent';
is $account->{stored_digest}, $account->{sent_digest}, 'and what is stored';
$t->wait_for('every stream to be drained', sub { $sidecar->redis->event_count == 0 });
pass 'nothing is left in Redis';
is $front->get('/status')->json->{published}{payload_bytes_copied}, 0, 'no payload byte was copied at the edge';
diag $road->report($account);

$t->done;
