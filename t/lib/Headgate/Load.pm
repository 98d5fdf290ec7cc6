# Closed-loop load: N keep-alive connections, each with one request under way, until a number of
# requests has been answered. What it sends is decided beforehand, so that it can outrun a server.
package Headgate::Load;
use v5.36;

use IO::Select;
use Time::HiRes qw(time);

use Headgate::Http;

# port, connections, requests, bytes (of one request, or a code reference called with its number);
# optional on_answer (called with status and body), seconds (60). Returns {status => count}; a lost connection counts as `lost`.
sub run ($class, %args) {
    my ($total, $sent, $answered, %counts) = ($args{requests}, 0, 0);
    my $bytes_of = ref $args{bytes} ? $args{bytes} : sub ($) { $args{bytes} };
    my $deadline = time + ($args{seconds} // 60);
    my $select   = IO::Select->new;
    my %state;
    my $send = sub ($socket) {
        return if $sent >= $total;
        syswrite $socket, $bytes_of->($sent++);
    };
    for (1 .. $args{connections}) {
        my $http = Headgate::Http->connect(port => $args{port});
        my $socket = $http->socket;
        $state{ fileno $socket } = { http => $http, buffer => '' };
        $select->add($socket);
    }
    $send->($_) for $select->handles;
    while ($answered < $total) {
        my @ready = $select->can_read($deadline - time) or die "load: $answered of $total answered in time\n";
        for my $socket (@ready) {
            my $state = $state{ fileno $socket };
            my $got   = sysread $socket, $state->{buffer}, 65_536, length $state->{buffer};
            if (!$got) {
                $counts{lost}++;
                $answered++;
                $select->remove($socket);
                $state->{http}->close;
                die "load: every connection is lost\n" if !$select->count;
                next;
            }
            while ($state->{buffer} =~ /\r\n\r\n/) {
                my $head_bytes = $+[0];
                my ($status)   = $state->{buffer} =~ m{\AHTTP/1\.1 (\d{3})} or die "load: not HTTP\n";
                my ($length)   = substr($state->{buffer}, 0, $head_bytes) =~ /\r\nContent-Length: (\d+)/i or die "load: no Content-Length\n";
                last if length $state->{buffer} < $head_bytes + $length;
                my $body = substr substr($state->{buffer}, 0, $head_bytes + $length, ''), $head_bytes;
                $counts{$status}++;
                $answered++;
                $args{on_answer}->($status, $body) if $args{on_answer};
                $send->($socket);
            }
        }
    }
    $_->{http}->close for values %state;
    return \%counts;
}

1;
