# An account of events that a test publishes: which paths of a Headgate::Receiver are to get each, which have, and when.
package Headgate::Account;
use v5.36;

use Time::HiRes qw(time);

use Headgate::Edge;
use Headgate::Http;

# sidecar, front (its nginx), receiver.
sub new ($class, $t, %args) {
    my $self = bless { t => $t, published => {}, open => [], %args }, $class;
    $self->{client} = Headgate::Http->connect(port => $args{front}->port);
    return $self;
}

# Publishes one event that these paths of the receiver are to get. Returns its id; with try_publish() nothing when it was
# answered 503.
sub publish ($self, $paths, %members) {
    return $self->try_publish($paths, %members) // $self->{t}->die_with_logs('publishing: 503');
}
sub try_publish ($self, $paths, %members) {
    my $answer = $self->{client}->request(
        'POST', '/events', headers => ['Content-Type' => 'application/json', 'X-API-Key' => $self->{sidecar}->api_key],
        body => Headgate::Edge::event_body(%members),
    );
    return undef if $answer->status == 503;
    $self->{t}->die_with_logs('publishing: ' . $answer->status) if $answer->status != 201;
    my $id = $answer->json->{id};
    $self->{published}{$id} = { at => time, paths => $paths };
    $self->{to_come} += @$paths;
    push $self->{open}->@*, map { "$_ $id" } @$paths;
    return $id;
}

sub events ($self)     { scalar keys $self->{published}->%* }
sub deliveries ($self) { $self->{to_come} // 0 }

# Deliveries that have not arrived.
sub missing ($self) {
    my $received = $self->{receiver}->received;
    $self->{open} = [grep { !$received->{$_} } $self->{open}->@*];
    return scalar $self->{open}->@*;
}
sub wait_for_all ($self, $seconds) { $self->{t}->wait_for('all deliveries', sub { !$self->missing }, $seconds) }
# Those that arrived more than once; none that was not published.
sub repeated ($self) { scalar grep { @$_ > 1 } values $self->{receiver}->received->%* }
sub unknown ($self) {
    return scalar grep { my ($path, $id) = split / /; !grep { $_ eq $path } ($self->{published}{$id} // { paths => [] })->{paths}->@* } keys $self->{receiver}->received->%*;
}

# The longest that any delivery waited, of events published since.
sub longest_wait ($self, $since) {
    my $received = $self->{receiver}->received;
    my $longest  = 0;
    while (my ($id, $event) = each $self->{published}->%*) {
        next if $event->{at} < $since;
        for my $path ($event->{paths}->@*) {
            my $waited = $received->{"$path $id"}[0] - $event->{at};
            $longest = $waited if $waited > $longest;
        }
    }
    return $longest;
}

1;
