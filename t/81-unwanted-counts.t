# How often webhooks did not want events is counted beside the transactions that persist these, in memory, and written once a
# second: the hourly counts are right when a second has passed, and when the sidecar has stopped; on both engines.
use v5.36;
use Test::More;

use Headgate::Credentials qw(uuid);
use Headgate::Postgres;
use Headgate::Receiver;
use Headgate::Test;

sub check ($engine, @store) {
    my $t        = Headgate::Test->new;
    my $receiver = Headgate::Receiver->start($t);
    my $sidecar  = $t->sidecar(@store ? $store[0]->($t) : ());
    my $redis    = $sidecar->redis;
    my %webhook;
    my $create = sub ($name, $events, @words) {
        $webhook{$name} = $sidecar->run_json('webhook', 'create', '--org', $sidecar->org, '--url', $receiver->url($name), '--events', $events, @words)->{id};
    };
    $create->('all', '*');
    $create->('paid', 'order.*', '--filters', '{"status":"paid"}');
    $create->('large', 'order.*', '--filters', '{"min_amount":100}');
    $create->('off', '*');
    $create->('others', 'user.*');
    $sidecar->run_json('webhook', 'update', $webhook{off}, '--disable');
    $sidecar->serve->wait_until_healthy;
    my @streams = $redis->streams;
    my $n = 0;
    my $add = sub ($payload) {
        my $id = uuid();
        $redis->command(
            'XADD', $streams[$n++ % 8], '*', v => 1, id => $id, org => $sidecar->org, key => 'k', type => 'order.made', source => 'test',
            payload => $payload, ord => '', tp => '', via => 'api', at => int(time * 1000),
        );
        return $id;
    };
    my $counts = sub () {
        my %sum;
        for my $row ($sidecar->sql('SELECT webhook_id, event_type, filtered_count, disabled_count FROM rollups WHERE filtered_count + disabled_count > 0')) {
            my ($name) = grep { $webhook{$_} eq $row->{webhook_id} } keys %webhook;
            $sum{"$name $row->{event_type}"}[$_->[0]] += $row->{$_->[1]} for [0, 'filtered_count'], [1, 'disabled_count'];
        }
        return join ', ', map { "$_ $sum{$_}[0]/$sum{$_}[1]" } sort keys %sum;
    };
    $add->($_) for (('{"status":"paid","amount":100}') x 3, ('{"status":"open","amount":200}') x 4, ('{"status":"open","amount":1}') x 5);
    my $expected = 'large order.made 5/0, off order.made 0/12, paid order.made 9/0';
    $t->wait_for("$engine: the counts of the first events", sub { $counts->() eq $expected }, 15);
    pass "$engine: $expected";

    # A change of subscriptions between, and a stop right behind the last.
    $add->('{"status":"open"}');
    $t->wait_for("$engine: the next", sub { $redis->event_count == 0 });
    $sidecar->run_json('webhook', 'update', $webhook{paid}, '--disable');
    my @last = map { $add->('{"status":"paid","amount":5}') } 1 .. 20;
    $t->wait_for("$engine: the last", sub { $redis->event_count == 0 });
    $sidecar->process->stop;
    is $counts->(), 'large order.made 26/0, off order.made 0/33, paid order.made 10/20', "$engine: and when it has stopped";
    is $sidecar->sql_value('SELECT count(*) FROM deliveries'), 33 + 3 + 7, "$engine: the deliveries";
    $t->done;
}

subtest SQLite     => sub { check('SQLite') };
subtest PostgreSQL => sub {
    check('PostgreSQL', sub ($t) { postgres => Headgate::Postgres->start($t) });
};
done_testing();
