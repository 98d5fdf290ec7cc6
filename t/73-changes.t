# What operators do while retries are pending: an endpoint is edited, its secret rotated, it is disabled, enabled, deleted; one
# delivery is retried by hand while its automatic retry is near, or under way.
use v5.36;
use Test::More;

use Headgate::Credentials qw(json);
use Headgate::Echo;
use Headgate::Edge;
use Headgate::Http;
use Headgate::Receiver;
use Headgate::Test;

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
sub data (@call) {
    my $answer = call(@call);
    $t->die_with_logs("@call[0, 1]: " . $answer->status . ' ' . $answer->body) if $answer->status >= 300;
    return $answer->json->{data};
}
# Its endpoint refuses from the start; the next attempt would come in so many ms.
sub webhook ($path, $delay_ms, %members) {
    $receiver->answer($path, 503);
    return data('POST', '/api/webhooks', json({ url => $receiver->url($path), events => ["$path.*"], retry_config => { schedule => [$delay_ms], max_retries => 4 }, %members }))->{webhook}{id};
}
sub publish ($path) {
    my $answer = $front->request(
        'POST', '/events', headers => ['Content-Type' => 'application/json', 'X-API-Key' => $h->api_key], body => Headgate::Edge::event_body(type => "$path.made"),
    );
    $t->die_with_logs('publishing: ' . $answer->status) if $answer->status != 201;
    return $answer->json->{id};
}
# None yet while the event is on its way.
sub delivery ($webhook, $event) {
    my $answer = call('GET', "/api/deliveries?webhook_id=$webhook&event_id=$event");
    return $answer->status == 200 ? $answer->json->{data}{deliveries}[0] : undef;
}
sub wait_state ($webhook, $event, $state) {
    $t->wait_for("the delivery of $event to be $state", sub { my $d = delivery($webhook, $event); $d && $d->{state} eq $state && $d });
}
sub arrived ($path, $event) { scalar(($receiver->received->{"$path $event"} // [])->@*) }
sub attempts ($delivery) { data('GET', "/api/deliveries/$delivery->{id}/attempts")->{attempts}->@* }
# A stored attempt of each, and it waits for the next.
sub pending ($path, $webhook) {
    my $event = publish($path);
    wait_state($webhook, $event, 'retrying');
    return $event;
}

# ---- edited -------------------------------------------------------------------------------------------

my $edited = webhook('edited', 1500, headers => { 'X-Tenant' => 'old' });
my $event  = pending('edited', $edited);
data('PATCH', "/api/webhooks/$edited", json({ url => $receiver->url('moved'), headers => { 'X-Tenant' => undef, 'X-Other' => 'new' } }));
my $done = wait_state($edited, $event, 'success');
is_deeply [arrived('edited', $event), arrived('moved', $event)], [1, 1], 'edited: the next attempt goes to the new address';
my @made = attempts($done);
is_deeply [map { [grep { /\AX-(?:Tenant|Other)\z/ } sort keys $_->{request_headers}->%*] } @made], [['X-Tenant'], ['X-Other']], '... with the new headers';

# ---- rotated ------------------------------------------------------------------------------------------

# Its second endpoint answers with what it got: a signature by each secret that is valid.
my $echo    = Headgate::Echo->start($t);
my $rotated = webhook('rotated', 1500);
$event = pending('rotated', $rotated);
my $rotation = data('POST', "/api/webhooks/$rotated/rotate-secret", json({ grace_seconds => 3600 }));
data('PATCH', "/api/webhooks/$rotated", json({ url => 'http://127.0.0.1:' . $echo->port . '/' }));
$done = wait_state($rotated, $event, 'success');
my ($signatures) = $h->sql_value("SELECT response_body FROM attempts WHERE delivery_id = '$done->{id}' AND number = 2") =~ /^webhook-signature: (.*?)\r?$/mi;
is scalar(split / /, $signatures // ''), 2, 'rotated: the next attempt is signed by the new secret too' or diag $signatures;
is $h->sql_value("SELECT count(*) FROM attempts WHERE request_headers LIKE '%v1,%'"), 0, 'no signature is kept in the clear';
like $h->sql_value("SELECT request_headers FROM attempts WHERE delivery_id = '$done->{id}' AND number = 2"), qr/"webhook-signature":"\*+"/, '... but that there was one';

# ---- disabled, and enabled again -------------------------------------------------------------------------

my $off = webhook('off', 600);
$event = pending('off', $off);
data('PATCH', "/api/webhooks/$off", json({ is_active => JSON::PP::false }));
$receiver->answer(off => 200);
my $asked = arrived('off', $event);
# That its time has come and gone shows in another webhook's retry, made after it.
my $other = webhook('other', 1200);
my $later = pending('other', $other);
$receiver->answer(other => 200);
wait_state($other, $later, 'success');
my $held = delivery($off, $event);
is_deeply [$held->{state}, arrived('off', $event)], ['retrying', $asked], 'disabled: nothing is sent, and nothing given up';
data('PATCH', "/api/webhooks/$off", json({ is_active => JSON::PP::true }));
wait_state($off, $event, 'success');
pass 'enabled: it goes on';

# ---- deleted ----------------------------------------------------------------------------------------------

my $gone = webhook('gone', 600);
$event = pending('gone', $gone);
$receiver->answer(gone => 0);    # a second one hangs in flight
my $flying = publish('gone');
wait_state($gone, $flying, 'in_flight');
is call('DELETE', "/api/webhooks/$gone")->status, 200, 'deleted';
$receiver->answer(gone => 200);
is_deeply [map { delivery($gone, $_)->{state} } $event, $flying], ['cancelled', 'cancelled'], 'deleted: what waits, and what is under way, is cancelled';
$later = pending('other', $other) if $receiver->answer(other => 503);
$receiver->answer(other => 200);
wait_state($other, $later, 'success');
is arrived('gone', $event), 1, '... and never sent again';

# ---- by hand, beside the automatic one ------------------------------------------------------------------------

my $hand = webhook('hand', 3_600_000);
$event = pending('hand', $hand);
my $id = delivery($hand, $event)->{id};
$receiver->answer(hand => 0);
is data('POST', "/api/deliveries/$id/retry", '{}')->{delivery}{state}, 'retrying', 'by hand: due now, not in an hour';
wait_state($hand, $event, 'in_flight');
is call('POST', "/api/deliveries/$id/retry", '{}')->status, 409, '... and not twice at a time';
is call('POST', "/api/deliveries/$id/cancel", '{}')->status, 409, '... nor given up meanwhile';
$h->crash;    # what was in flight is sent again at once, an attempt less is not counted
$receiver->answer(hand => 200);
$h->serve;
wait_state($hand, $event, 'success');
is_deeply [map { "$_->{number} $_->{outcome}" } attempts({ id => $id })], ['1 retry', '2 interrupted', '2 success'], 'the log tells of all of them';
is call('POST', "/api/deliveries/$id/retry", '{}')->status, 409, 'what has succeeded is not retried';

# Twenty at a time by hand, in the very moment of their automatic retry: each is sent, none twice at a time.
my $race   = webhook('race', 400);
my @events = map { publish('race') } 1 .. 8;
$t->wait_for('their first attempts', sub { !grep { !arrived('race', $_) } @events });
my @ids = map { delivery($race, $_)->{id} } @events;
my $second = $t->wait_for('a second attempt somewhere', sub { grep { arrived('race', $_) > 1 } @events });
$receiver->answer(race => 200);
my %said;
for my $each (@ids) { $said{ call('POST', "/api/deliveries/$each/retry", '{}')->status }++ }
is_deeply [grep { !/\A(?:200|409)\z/ } keys %said], [], 'retried by hand or refused: ' . join ', ', map { "$_ x $said{$_}" } sort keys %said;
wait_state($race, $_, 'success') for @events;
for my $each (@ids) {
    my @log = map { $_->{number} } attempts({ id => $each });
    is_deeply \@log, [1 .. @log], 'each attempt has its number' or diag explain \@log;
}

$t->done;
