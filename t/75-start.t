# A start with 20,000 deliveries that have been due for days: they are spread, what arrives meanwhile is delivered at once, memory
# stays bounded; and a stop in the middle of it, with requests in flight that never end, takes less than ten seconds.
use v5.36;
use Test::More;
use Time::HiRes qw(time);

use Headgate::Credentials qw(json);
use Headgate::Edge;
use Headgate::Http;
use Headgate::Receiver;
use Headgate::Test;

my $ROWS = 20_000;
my $HOOKS = 20;

my $t        = Headgate::Test->new;
my $redis    = $t->redis;
my $receiver = Headgate::Receiver->start($t);
my $h        = $t->sidecar(redis => $redis)->serve->wait_until_healthy;
my $front    = $h->front;

sub call ($method, $target, $body = undef) {
    my @headers = ('X-API-Key' => $h->api_key);
    push @headers, 'Content-Type' => 'application/json' if defined $body;
    return Headgate::Http->connect(port => $h->port)->request($method, $target, headers => \@headers, defined $body ? (body => $body) : ());
}
sub publish ($type) {
    my $answer = $front->request(
        'POST', '/events', headers => ['Content-Type' => 'application/json', 'X-API-Key' => $h->api_key], body => Headgate::Edge::event_body(type => $type),
    );
    $t->die_with_logs('publishing: ' . $answer->status) if $answer->status != 201;
    return $answer->json->{id};
}
sub webhook ($path, $type) {
    my $made = call('POST', '/api/webhooks', json({ url => $receiver->url($path), events => [$type] }));
    $t->die_with_logs($made->body) if $made->status != 201;
    return $made->json->{data}{webhook}{id};
}
sub resident_kib () { my ($kib) = $t->read_file('/proc/' . $h->process->pid . '/status') =~ /^VmRSS:\s+(\d+)/m; $kib }
sub due () { $h->sql_value("SELECT count(*) FROM deliveries WHERE state IN ('queued', 'retrying')") }
sub of_old () { scalar grep { /\Aold/ } keys $receiver->received->%* }

# One event for each webhook goes the whole way; its rows are the pattern of the others.
my @hooks = map { webhook("old$_", "old.of$_") } 1 .. $HOOKS;
my $live  = webhook('live', 'live.*');
publish("old.of$_") for 1 .. $HOOKS;
$t->wait_for('the patterns', sub { of_old() == $HOOKS && $h->sql_value("SELECT count(*) FROM deliveries WHERE state = 'success'") == $HOOKS });
my $empty_kib = resident_kib();
$h->process->stop;
sub columns ($table, %other) {
    my @names = map { $_->{name} } $h->sql("SELECT name FROM pragma_table_info('$table')");
    return join(', ', @names), join(', ', map { $other{$_} // "p.$_" } @names);
}
my $each = $ROWS / $HOOKS;
my $days_ago = int((time - 3 * 86_400) * 1000);
my ($events, $event_values) = columns('events', id => "printf('01930000-%04x-7000-8000-%012x', n.n, p.seq)", seq => "1000 + p.seq * $each + n.n", created_at => "$days_ago");
my ($rows, $row_values) = columns(
    'deliveries', id => "printf('01930000-%04x-7000-8001-%012x', n.n, e.seq)", event_id => "printf('01930000-%04x-7000-8000-%012x', n.n, e.seq)",
    state => "'retrying'", status => "'failed'", attempts => 1, due_at => "$days_ago + n.n", updated_at => $days_ago, created_at => $days_ago, stream_seq => 'n.n',
);
my $numbers = "(WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < $each) SELECT n FROM n) n";
$h->change("BEGIN; CREATE TEMP TABLE pe AS SELECT * FROM events; CREATE TEMP TABLE pd AS SELECT d.*, e.seq FROM deliveries d JOIN events e ON e.id = d.event_id;"
    . "INSERT INTO events ($events) SELECT $event_values FROM pe p, $numbers;"
    . "INSERT INTO deliveries ($rows) SELECT @{[ $row_values =~ s/\be\.seq/p.seq/gr ]} FROM pd p, $numbers; UPDATE organizations SET seq = 100000000; COMMIT");
is due(), $ROWS, "$ROWS deliveries have been due for days";

# ---- the start --------------------------------------------------------------------------------------------

my $before = of_old();
my $started = int(time * 1000);
$h->serve;
my $id = publish('live.first');
$t->wait_for('the first new event', sub { $receiver->received->{"live $id"} });
cmp_ok due(), '>', $ROWS / 2, 'a new event is delivered while nearly all of them still wait';
my $spread = $t->wait_for('all to be spread', sub { $h->process->log_text =~ /delivery\.overdue_spread deliveries=(\d+)/ ? $1 : undef });
is $spread, $ROWS, 'all of them got times to come';
$t->wait_for('the old ones to be sent', sub { of_old() >= $before + 500 }, 60);
my $last = $h->sql_value("SELECT max(due_at) FROM deliveries WHERE state = 'retrying'");
cmp_ok $last - $started, '>=', 60_000, '... spread over a minute at least';
my $status = { $redis->command('HGETALL', ($redis->command('KEYS', 'headgate:status:sidecar:*')->@*)[0])->@* };
cmp_ok $status->{in_memory}, '<=', 4096, 'a bounded number is held in memory';
cmp_ok resident_kib() - $empty_kib, '<', 64 * 1024, '... and so is memory';
$id = publish('live.second');
$t->wait_for('another new event meanwhile', sub { $receiver->received->{"live $id"} });
cmp_ok due(), '>', 0, 'live events come first';

# ---- the stop -----------------------------------------------------------------------------------------------

# All of them are due now, and no endpoint answers any more.
$receiver->answer("old$_", 0) for 1 .. $HOOKS;
$h->change("UPDATE deliveries SET due_at = $days_ago WHERE state = 'retrying'");
$t->wait_for('requests in flight that do not end', sub {
    my %status = $redis->command('HGETALL', ($redis->command('KEYS', 'headgate:status:sidecar:*')->@*)[0])->@*;
    return ($status{in_flight} // 0) >= 16;
}, 30);
my $began = time;
is $h->process->stop, undef, 'it stops';
cmp_ok time - $began, '<', 10, '... within ten seconds, with requests in flight';
is $h->process->status, 0, '... cleanly';
is $h->sql_value("SELECT count(*) FROM deliveries WHERE state = 'in_flight'"), 0, 'nothing is left in flight';
cmp_ok $h->sql_value("SELECT count(*) FROM attempts WHERE outcome = 'interrupted'"), '>=', 16, 'what was in flight is interrupted';
is $h->sql_value("SELECT count(*) FROM deliveries WHERE state = 'retrying' AND attempts > 1"), 0, '... and has used up no retry';

$t->done;
