# Idempotency-Key: the first answer again for the same key and body, 422 for another body, once only however many
# ask at once; scoped to the organization and the ordering key; alone, behind limits and in batches.
use v5.36;
use Test::More;

use Digest::SHA qw(sha256_hex);
use POSIX ();
use Headgate::Credentials qw(json);
use Headgate::Edge;
use Headgate::Load;
use Headgate::Resp;
use Headgate::Test;

my $t     = Headgate::Test->new;
my $redis = $t->redis(appendfsync => 'no');
my $edge  = Headgate::Edge->start(
    $t, redis => $redis, redis_options => 'timeout=10s connect_timeout=1s', workers => 2, http => 'client_body_buffer_size 4k;',
    locations => 'location = /batch { headgate_auth jwt api_key; headgate_publish batch; }'
        . ' location = /exact { headgate_auth jwt api_key; headgate_limit plan; headgate_limit_mode exact; headgate_publish event; }'
        . ' location = /soon { headgate_auth jwt api_key; headgate_idempotency_ttl 200ms; headgate_publish event; }',
);
my $key = $edge->add_key;
my $n   = 0;

sub event (%members) { return json({ type => 'a.b', source => 's', payload => { n => 1 }, %members }) }
sub publish ($idempotency_key, %args) {
    return $edge->publish(key => $key, body => event(), %args, headers => ['Idempotency-Key' => $idempotency_key, ($args{headers} // [])->@*]);
}
sub new_key () { return 'key-' . ++$n }
sub problem_is ($answer, $status, $name) {
    is $answer->status, $status, $name or diag $answer->body;
    is $answer->header('Content-Type'), 'application/problem+json', "$name: a problem";
    is $answer->json->{status}, $status, "$name: its status";
}

# -- once, again, and otherwise ----------------------------------------------------------------------
for my $target ('/events', '/exact') {
    my $name  = new_key();
    my $first = publish($name, target => $target);
    is $first->status, 201, "$target: the first is 201" or diag $first->body;
    is $first->header('Idempotent-Replayed'), undef, "$target: ... and no replay";
    for my $chunked (0, 7) {
        my $again = publish($name, target => $target, chunked => $chunked);
        is $again->status, 200, "$target: again is 200";
        is $again->header('Idempotent-Replayed'), 'true', "$target: ... a replay";
        is $again->body, $first->body, "$target: ... with the first answer, byte for byte";
        is $again->header('Content-Type'), $first->header('Content-Type'), "$target: ... and type";
    }
    problem_is(publish($name, target => $target, body => event() . ' '), 422, "$target: a body that differs by a space is 422");
    problem_is(publish($name, target => $target, body => '{'), 400, "$target: an invalid body is 400 whatever the key");
    is $redis->event_count, 1, "$target: one entry";
    my $stored = $redis->event($first->json->{id});
    is $stored->{payload}, '{"n":1}', "$target: ... with its payload";
    my @remembered = $redis->command('KEYS', 'headgate:{*}:idem:org-test:*')->@*;
    is_deeply [map { s/.*://r } @remembered], [sha256_hex("\0$name")], "$target: the key's name";
    is $redis->command('GET', $remembered[0]), $stored->{id} . ' ' . sha256_hex(event()), "$target: ... and value";
    my $left_ms = $redis->command('PTTL', $remembered[0]);
    ok $left_ms > 86_300_000 && $left_ms <= 86_400_000, "$target: ... for a day" or diag $left_ms;
    $redis->command('DEL', @remembered, $redis->streams);
}

# -- what a key is ------------------------------------------------------------------------------------
for my $good ('x', '!"#$%&\'()*+,-./:;<=>?@[\]^_`{|}~', 'k' x 255) {
    is publish($good)->status, 201, 'a good key: ' . substr $good, 0, 40;
    is publish($good)->status, 200, '... is remembered';
}
for my $bad (['no character' => ''], ['a space' => 'a b'], ['a tab' => "a\tb"], ['256 characters' => 'k' x 256], ['a byte over 127' => "caf\xe9"]) {
    problem_is(publish($bad->[1]), 400, "400: $bad->[0]");
}
problem_is(publish('a', headers => ['idempotency-key' => 'a']), 400, '400: two keys');
$redis->command('FLUSHALL');
$edge->project;
$key = $edge->add_key;

# -- scope ------------------------------------------------------------------------------------------------
{
    my $name   = new_key();
    my $other  = $edge->add_key(org => 'org{0}:idem:x');
    my $fellow = $edge->add_key;
    my @first  = map { publish($name, %$_) } {}, { key => $other }, { body => event(ordering_key => 'a') }, { body => event(ordering_key => 'b') };
    is_deeply [map { $_->status } @first], [(201) x 4], 'another organization or ordering key has keys of its own';
    is publish($name, key => $fellow)->body, $first[0]->body, 'another API key of the organization has not';
    is publish($name, key => $other)->body, $first[1]->body, 'an organization may be named anyhow';
    is publish($name, body => event(ordering_key => 'a'))->body, $first[2]->body, 'an ordering key';
    is_deeply [map { publish($name, body => event(ordering_key => "row$_"))->status } 1 .. 20], [(201) x 20], 'nor do ordering keys of one shard share a key';
    my %shard_of;
    for my $stream ($redis->streams) { $shard_of{ $_->[1]{id} } = $stream =~ s/events\z//r for $redis->client->entries($stream) }
    for my $answer (@first) {
        my $id = $answer->json->{id};
        my ($remembered) = grep { $redis->command('GET', $_) =~ /\A$id / } $redis->command('KEYS', '*:idem:*')->@*;
        is substr($remembered, 0, length $shard_of{$id}), $shard_of{$id}, 'the key lies in its stream\'s slot';
    }
    my %ids = map { publish("$name-$_")->json->{id} => 1 } 1 .. 3;
    is keys %ids, 3, 'other keys, other events';
}

# -- forgotten ----------------------------------------------------------------------------------------------
{
    my $name  = new_key();
    my $first = publish($name, target => '/soon');
    is $first->status, 201, 'a key for 200 ms';
    my $later = $t->wait_for('the key to be forgotten', sub { my $answer = publish($name, target => '/soon', body => event(payload => { n => 2 })); $answer->status == 201 ? $answer : undef });
    isnt $later->json->{id}, $first->json->{id}, '... is a new key afterwards';
}

# -- limits -----------------------------------------------------------------------------------------------------
{
    my $poor = $edge->add_key(limits => '4r/h');
    my $name = new_key();
    my @answers = map { publish($name, key => $poor, target => '/exact', body => event(payload => { n => $_ })) } 1, 1, 2, 1, 1;
    is_deeply [map { $_->status } @answers], [201, 200, 422, 200, 429], 'replays and conflicts are charged';
    is_deeply [map { $_->header('X-RateLimit-Remaining') } @answers], [3, 2, 1, 0, 0], '... and say so in the headers';
    my $fresh = new_key();
    is publish($fresh, key => $poor, target => '/exact')->status, 429, 'what a limit refuses';
    is publish($fresh, target => '/exact')->status, 201, '... leaves the key unused';
}

# -- all at once -----------------------------------------------------------------------------------------------------
for my $target ('/events', '/exact') {
    $redis->command('DEL', $redis->streams);
    my $bytes = Headgate::Http->format_request('POST', $target, headers => [$edge->headers(token => $edge->token(claims => { plan => 'unlimited' })), 'Idempotency-Key' => new_key()], body => event());
    my %ids;
    my $counts = Headgate::Load->run(
        port => $edge->nginx->port, connections => 64, requests => 64, bytes => $bytes,
        on_answer => sub ($status, $body) { $ids{ $body =~ s/.*"id":"([^"]+)".*/$1/sr }{$status}++ },
    );
    is_deeply $counts, { 201 => 1, 200 => 63 }, "$target: of 64 at once one is 201";
    is keys %ids, 1, "$target: ... all with one id";
    is_deeply [map { $_->{id} } $redis->events], [keys %ids], "$target: ... of the one entry";
}

# -- a flushed script cache ---------------------------------------------------------------------------------------------
for my $target ('/events', '/exact') {
    my $name = new_key();
    $redis->command('SCRIPT', 'FLUSH');
    my $first = publish($name, target => $target);
    is $first->status, 201, "$target: after SCRIPT FLUSH";
    $redis->command('SCRIPT', 'FLUSH');
    is publish($name, target => $target)->body, $first->body, "$target: ... a replay after another";
}

# -- batches ----------------------------------------------------------------------------------------------------------------
sub batch ($name, $body, @headers) {
    return $edge->publish(key => $key, target => '/batch', body => $body, headers => ['Idempotency-Key' => $name, @headers]);
}
# Where order counts nothing is sent twice: the script is there before the events are, though Redis had forgotten it.
{
    my $missed = sub { my ($count) = $redis->command('INFO', 'errorstats') =~ /errorstat_NOSCRIPT:count=(\d+)/; return $count // 0 };
    my $before = $missed->();
    $redis->command('DEL', $redis->streams);
    $redis->command('SCRIPT', 'FLUSH');
    my $ordered = batch(new_key(), '[' . join(',', map { event(ordering_key => "k$_") } map { $_ % 5 } 1 .. 20) . ']');
    is $ordered->json->{accepted}, 20, 'a batch of ordered events after SCRIPT FLUSH';
    is $missed->(), $before, '... which misses no script';
}
# Scripts are forgotten all the time, and others load them again: no event of an ordering key overtakes another.
{
    my $stop = $t->path('stop-flushing');
    my $pid  = fork() // die "fork: $!";
    if ($pid == 0) {
        my $flusher = Headgate::Resp->connect(port => $redis->port);
        eval {
            while (!-e $stop) {
                $flusher->command('SCRIPT', 'FLUSH');
                publish('child-' . ++$n);
            }
        };
        POSIX::_exit(0);
    }
    my (@accepted, %expected, %stored);
    for my $round (1 .. 12) {
        my @order = map { { ordering_key => 'k' . $_ % 3, payload => { round => $round, n => $_ } } } 1 .. 300;
        my $answer = batch("flushed-$round", '[' . join(',', map { event(%$_) } @order) . ']');
        my $told   = $answer->json;
        push @accepted, $told->{accepted} // 0;
        push $expected{ $order[$_]{ordering_key} }->@*, $told->{results}[$_]{id} for 0 .. $#order;
    }
    $t->write_file('stop-flushing', '');
    waitpid $pid, 0;
    push $stored{ $_->{ord} }->@*, $_->{id} for grep { $_->{ord} =~ /\Ak[0-2]\z/ && $_->{via} eq 'batch' && $_->{payload} =~ /round/ } $redis->events;
    is_deeply \@accepted, [(300) x 12], 'batches of ordered events while scripts are forgotten all the time: all stored';
    is_deeply \%stored, \%expected, '... each once, and each ordering key in its order';
}
for my $flush (0, 1) {
    my $name   = new_key();
    my @events = map { event(payload => { n => $_ }) } 1 .. 20;
    $redis->command('DEL', $redis->streams);
    $redis->command('SCRIPT', 'FLUSH') if $flush;
    my $first = batch($name, '[' . join(',', @events[0 .. 9], '{}', @events[10 .. 19]) . ']');
    is $first->status, 200, 'a batch with a key' or diag $first->body;
    is $first->json->{accepted}, 20, '... is stored';
    my @ids = map { $_->{id} } $first->json->{results}->@*;
    $redis->command('SCRIPT', 'FLUSH') if $flush;
    my $again = batch($name, "[\n" . join(" ,\n ", @events[0 .. 9], '{}', @events[10 .. 19]) . "\n]");
    is_deeply [map { $_->{id} } $again->json->{results}->@*], \@ids, 'again, with other white space between the events: the same ids';
    is_deeply [map { $_->{replayed} ? 1 : 0 } $again->json->{results}->@*], [(1) x 10, 0, (1) x 10], '... as replays';
    is $redis->event_count, 20, '... and nothing more is stored';
    my $lines = batch($name, join("\n", @events[0 .. 9], '{}', @events[10 .. 19]), 'Content-Type' => 'application/x-ndjson');
    is_deeply [map { $_->{id} } $lines->json->{results}->@*], \@ids, 'the same events as lines';
    my $mixed = batch($name, '[' . join(',', $events[1], $events[1], @events[2 .. 9], '{}', @events[10 .. 19], event(payload => { n => 21 })) . ']');
    is_deeply [map { $_->{status} } ($mixed->json->{results}->@*)[0, 1, 10, 20, 21]], [422, undef, 422, undef, undef], 'another event under a used number is a conflict of its own';
    is_deeply [@{ $mixed->json }{qw(accepted rejected)}], [20, 2], '... and counted';
    is $redis->event_count, 21, 'only the event behind them is new';
    problem_is(batch($name, '[' . $events[5] . ']'), 422, 'nothing but conflicts');
    is_deeply { map { $_->{id} => $_->{payload} } grep { $_->{id} eq $ids[0] } $redis->events }, { $ids[0] => '{"n":1}' }, 'bytes as sent';
    my ($remembered) = grep { $redis->command('GET', $_) =~ /\A$ids[0] / } $redis->command('KEYS', '*:idem:*')->@*;
    like $remembered, qr/:\Q@{[ sha256_hex("\0$name#0") ]}\E\z/, 'number 0 is under <key>#0';
}

# A large event under a key, in memory and in a file: the digest is of all of it.
for my $bytes (3000, 200_000) {
    my $name = new_key();
    my $body = event(payload => { d => 'x' x $bytes });
    my $first = publish($name, body => $body);
    is $first->status, 201, "$bytes bytes";
    is publish($name, body => $body, chunked => 997)->body, $first->body, '... again';
    is publish($name, body => $body =~ s/x"/y"/r)->status, 422, '... and with another last byte';
    is batch($name, "[$body,$body]")->json->{accepted}, 2, '... and twice in a batch';
    is_deeply [map { $_->{status} } batch($name, '[' . $body =~ s/x"/y"/r . ",$body]")->json->{results}->@*], [422, undef], '... with another last byte in one of them';
}

is $edge->status->{published}{payload_bytes_copied}, 0, 'payload_bytes_copied';
is $edge->status->{published}{inflight_bytes}, 0, 'nothing is in flight';

# -- Redis is away -----------------------------------------------------------------------------------------------------------
$redis->crash;
is $edge->publish(token => $edge->token, headers => ['Idempotency-Key' => 'x'], body => event())->status, 503, 'Redis is away';

$t->done;
