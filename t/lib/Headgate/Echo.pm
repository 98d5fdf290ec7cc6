# An upstream that answers every request with the bytes of its head, so that a test sees exactly what was passed on.
package Headgate::Echo;
use v5.36;

use IO::Select;
use IO::Socket::INET;

sub start ($class, $t, %args) {
    my $self = bless { port => $args{port} // $t->port }, $class;
    my $lib  = $t->root . '/t/lib';
    my $process = $t->start(name => 'echo', command => [$^X, "-I$lib", '-MHeadgate::Echo', '-e', 'Headgate::Echo::serve(shift)', $self->{port}]);
    $t->wait_for_port($self->{port}, $process);
    return $self;
}

sub port ($self) { $self->{port} }

sub serve ($port) {
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 64, ReuseAddr => 1) or die "port $port: $!\n";
    my $select = IO::Select->new($listener);
    my %read;
    while (1) {
        for my $socket ($select->can_read) {
            if ($socket == $listener) {
                $select->add($listener->accept // next);
                next;
            }
            if (!sysread $socket, $read{$socket}, 65_536, length($read{$socket} // '')) {
                delete $read{$socket};
                $select->remove($socket);
                close $socket;
                next;
            }
            while ($read{$socket} =~ /\A(.*?\r\n\r\n)/s) {
                my $head = $1;
                my $body = $head =~ /\r\nContent-Length: (\d+)/i ? $1 : 0;
                last if length $read{$socket} < length($head) + $body;
                substr $read{$socket}, 0, length($head) + $body, '';
                syswrite $socket, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " . length($head) . "\r\n\r\n$head";
            }
        }
    }
}

1;
