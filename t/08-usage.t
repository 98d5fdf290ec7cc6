# headgate:usage:{<key id>}: counts of all workers add up, across a reload, a Redis that was away, and the end.
use v5.36;
use Test::More;

use Headgate::Edge;
use Headgate::Http;
use Headgate::Load;
use Headgate::Test;

my $t = Headgate::Test->new;
$t->write_file('html/page', "page\n", 0644);
my $redis = $t->redis;
my $edge  = Headgate::Edge->start(
    $t, redis => $redis, workers => 2,
    locations => 'location = /page { headgate_auth jwt api_key; headgate_limit plan; root ' . $t->dir('html') . '; try_files /page =404; }'
        . 'location = /scope { headgate_auth jwt api_key; headgate_require_scope admin; root ' . $t->dir('html') . '; try_files /page =404; }',
);
my $key = $edge->add_key(limits => '100r/d');
my $id  = $edge->key_id($key);

sub usage { my %usage = $redis->command('HGETALL', "headgate:usage:{$id}")->@*; return \%usage }
sub counts ($usage) { [map { $usage->{$_} // 0 } qw(requests accepted limited)] }
sub load ($requests, $path = '/page') {
    my $bytes = Headgate::Http->format_request('GET', $path, headers => ['X-API-Key' => $key]);
    return Headgate::Load->run(port => $edge->nginx->port, connections => 16, requests => $requests, bytes => $bytes);
}
sub usage_is ($expected, $name) {
    $t->wait_for("usage @$expected", sub { "@{counts(usage())}" eq "@$expected" });
    is_deeply counts(usage()), $expected, $name;
}

my $began_ms = time * 1000 - 1000;
load(130);
usage_is([130, 100, 30], 'requests, accepted, limited of two workers');
my $used = usage()->{last_used_at};
ok $used >= $began_ms && $used <= (time + 1) * 1000, 'last_used_at in ms';
load(5, '/scope');
usage_is([135, 100, 30], 'a refusal for another reason is a request, and neither');
is $edge->publish(key => $edge->add_key)->status, 201, 'another key';
usage_is([135, 100, 30], 'has counts of its own');

# The old workers write what they have before they leave.
load(40);
$edge->nginx->reload_and_wait;    # an old worker may close a connection before it reads the request
load(40);
usage_is([215, 100, 110], 'across a reload');

$redis->crash;
$t->wait_for('the edge to notice', sub { $edge->status->{redis}{state} eq 'backoff' });
my $token = $edge->token(claims => { plan => 'unlimited', key => $id });
my $by_token = Headgate::Load->run(
    port => $edge->nginx->port, connections => 4, requests => 20,
    bytes => Headgate::Http->format_request('GET', '/page', headers => [Authorization => "Bearer $token"])
);
is_deeply $by_token, { 200 => 20 }, 'tokens work without Redis';
$redis->restart;
usage_is([235, 120, 110], 'what was counted while Redis was away follows');

# More keys than are written at once: each has its own count, to the last, though Redis was away meanwhile.
my @ids    = map { sprintf 'many-%04d', $_ } 1 .. 400;
my @tokens = map { $edge->token(claims => { plan => 'unlimited', key => $_ }) } @ids;
my %expected;
sub visit ($to, $token) { $to->request('GET', '/page', headers => [Authorization => "Bearer $token"])->status }
for my $round (1 .. 3) {
    my $visitor = Headgate::Http->connect(port => $edge->nginx->port);
    if ($round == 2) {
        $redis->crash;
        $t->wait_for('the edge to notice', sub { $edge->status->{redis}{state} eq 'backoff' });
    }
    for my $i (0 .. $#ids) {
        visit($visitor, $tokens[$i]) == 200 and $expected{ $ids[$i] }++;
        $i % 3 or visit($visitor, $tokens[$i]) == 200 and $expected{ $ids[$i] }++;
    }
    $visitor->close;
    if ($round == 2) {
        $redis->restart;
        $t->wait_for('the edge to be back', sub { $edge->status->{redis}{state} eq 'ready' });
    }
}
my %counted;
$t->wait_for('the counts of all keys', sub {
    %counted = map { $_ => $redis->command('HGET', "headgate:usage:{$_}", 'requests') // 0 } @ids;
    return !grep { $counted{$_} < $expected{$_} } @ids;
});
is_deeply \%counted, \%expected, 'as many keys as are written in several turns';

load(10);
is $edge->nginx->process->stop, undef, 'nginx quits';
is_deeply counts(usage()), [245, 120, 120], 'and what it had counted is there';
$edge->nginx->launch;

$t->done;
