# A name server on a UDP port that answers every A question with the address it was given last, and nothing else.
package Headgate::Dns;
use v5.36;

use IO::Socket::INET;
use POSIX ();

use Headgate::Process;

sub start ($class, $t, %args) {
    my $self = bless { t => $t, port => $t->port, file => $t->path('dns-address') }, $class;
    $self->address($args{address});
    my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $self->{port}, Proto => 'udp') or die "udp: $!";
    my $pid = fork() // die "fork: $!";
    if ($pid == 0) {
        $SIG{INT} = 'IGNORE';
        $SIG{TERM} = 'DEFAULT';
        $self->serve($socket);
        POSIX::_exit(0);
    }
    push $t->{processes}->@*, bless {
        name => 'name server', pid => $pid, log => '/dev/null', stop_signal => 'TERM', stop_seconds => 5,
    }, 'Headgate::Process';
    return $self;
}

sub port ($self) { $self->{port} }
sub address ($self, $address) {
    # In one step, as questions come at any time.
    $self->{t}->write_file("$self->{file}.new", $address);
    rename "$self->{file}.new", $self->{file} or die "rename: $!";
}

sub serve ($self, $socket) {
    while (my $peer = $socket->recv(my $query, 512)) {
        my ($id, $flags, $questions) = unpack 'n3', $query;
        my $end = 12;
        $end += 1 + ord substr $query, $end, 1 while $end < length $query && ord substr $query, $end, 1;
        my $question = substr $query, 12, $end + 5 - 12;
        my $is_a     = unpack('n', substr $question, -4, 2) == 1;
        my $answer   = $is_a ? pack('n n n N n C4', 0xc00c, 1, 1, 0, 4, split /\./, $self->{t}->read_file($self->{file})) : '';
        $socket->send(pack('n6', $id, 0x8180, 1, $is_a ? 1 : 0, 0, 0) . $question . $answer, 0, $peer);
    }
}

1;
