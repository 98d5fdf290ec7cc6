# Closed-loop load: N keep-alive connections, each with one request under way, until a number of
# requests has been answered. What it sends is decided beforehand, so that it can outrun a server.
package Headgate::Load;
use v5.36;

use IO::Select;
use Time::HiRes qw(time);

use Headgate::Http;

# port, connections, requests, bytes (of one request, or a code reference called with its number);
# optional on_answer (called with status and body), seconds (60), at ({count => code}: called when so many are answered).
# Returns {status => count}; a lost connection counts as `lost`.
#
# reconnect => 1: as a client that lives through a reload. A lost connection is replaced. `Connection: close` is obeyed. A
# request that was sent on a used connection which the server closes without a byte of an answer is sent again, as RFC
# 9112, section 9.3.1 has it, and counts as `stale`: no server can avoid that. An answer that breaks off counts as `cut`,
# and `lost` is then only what a server had no reason to lose: the first request of a connection.
sub run ($class, %args) {
    my $self = bless {
        %args, sent => 0, answered => 0, counts => {}, select => IO::Select->new, state => {},
        at => { ($args{at} // {})->%* },
    }, $class;
    my $deadline = time + ($args{seconds} // 60);
    $self->open_connection for 1 .. $args{connections};
    while ($self->{answered} < $args{requests}) {
        my @ready = $self->{select}->can_read($deadline - time)
            or die "load: $self->{answered} of $args{requests} answered in time\n";
        for my $socket (@ready) {
            my $state = $self->{state}{ fileno $socket };
            my $got   = sysread $socket, $state->{buffer}, 65_536, length $state->{buffer};
            $got ? $self->take_answers($state) : $self->connection_lost($state);
        }
        for my $count (grep { $_ <= $self->{answered} } sort { $a <=> $b } keys $self->{at}->%*) {
            delete($self->{at}{$count})->();
        }
    }
    $_->{http}->close for values $self->{state}->%*;
    return $self->{counts};
}

# Its first request is the one given, or the next.
sub open_connection ($self, $bytes = undef) {
    my $http   = Headgate::Http->connect(port => $self->{port});
    my $socket = $http->socket;
    my $state  = $self->{state}{ fileno $socket } = { http => $http, socket => $socket, buffer => '', used => 0 };
    $self->{select}->add($socket);
    defined $bytes ? $self->send_bytes($state, $bytes) : $self->send_next($state);
}

sub close_connection ($self, $state) {
    $self->{select}->remove($state->{socket});
    delete $self->{state}{ fileno $state->{socket} };
    $state->{http}->close;
}

sub send_next ($self, $state) {
    delete $state->{under_way};
    return if $self->{sent} >= $self->{requests};
    my $bytes = ref $self->{bytes} ? $self->{bytes}->($self->{sent}) : $self->{bytes};
    $self->{sent}++;
    $self->send_bytes($state, $bytes);
}

sub send_bytes ($self, $state, $bytes) {
    $state->{under_way} = $bytes;
    syswrite $state->{socket}, $bytes;
}

sub connection_lost ($self, $state) {
    my ($bytes, $why) = ($state->{under_way}, length $state->{buffer} ? 'cut' : $state->{used} ? 'stale' : 'lost');
    $self->close_connection($state);
    if (!$self->{reconnect}) {
        $self->{counts}{lost}++;
        $self->{answered}++;
        die "load: every connection is lost\n" if !$self->{select}->count;
        return;
    }
    return if !defined $bytes;
    $self->{counts}{$why}++;
    return $self->open_connection($bytes) if $why eq 'stale';
    $self->{answered}++;
    $self->open_connection;
}

sub take_answers ($self, $state) {
    while ($state->{buffer} =~ /\r\n\r\n/) {
        my $head     = substr $state->{buffer}, 0, $+[0];
        my ($status) = $head =~ m{\AHTTP/1\.1 (\d{3})} or die "load: not HTTP\n";
        my ($length) = $head =~ /\r\nContent-Length: (\d+)/i or die "load: no Content-Length\n";
        return if length $state->{buffer} < length($head) + $length;
        my $body = substr substr($state->{buffer}, 0, length($head) + $length, ''), length $head;
        $self->{counts}{$status}++;
        $self->{answered}++;
        $state->{used}++;
        $self->{on_answer}->($status, $body) if $self->{on_answer};
        if ($self->{reconnect} && $head =~ /\r\nConnection: close\r\n/i) {
            $self->close_connection($state);
            $self->open_connection if $self->{sent} < $self->{requests};
            return;
        }
        $self->send_next($state);
    }
}

1;
