# A RESP2 client, small and blocking: what tests need to look into Redis, or to be the sidecar's
# hand that projects keys. Errors of Redis die, unless asked for as values.
package Headgate::Resp;
use v5.36;

use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Time::HiRes qw(time);

# port or path; optional user, password, timeout (seconds).
sub connect ($class, %args) {
    my $socket = $args{path}
        ? IO::Socket::UNIX->new(Peer => $args{path})
        : IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $args{port}, Timeout => 5);
    return undef if !$socket;
    my $self = bless { socket => $socket, buffer => '', timeout => $args{timeout} // 10 }, $class;
    $self->command('AUTH', $args{user} // (), $args{password}) if defined $args{password};
    return $self;
}

sub encode (@words) {
    for (@words) { utf8::encode($_) if utf8::is_utf8($_) }
    return '*' . @words . "\r\n" . join '', map { '$' . length($_) . "\r\n$_\r\n" } @words;
}

# One command, one reply: a string, a number, undef, or an array reference.
sub command ($self, @words) {
    my ($reply, $error) = $self->try_command(@words);
    die "redis: $words[0]: $error\n" if defined $error;
    return $reply;
}

# (reply, undef) or (undef, error text).
sub try_command ($self, @words) {
    $self->send_bytes(encode(@words));
    return $self->read_reply;
}

sub send_bytes ($self, $bytes) {
    while (length $bytes) {
        my $sent = syswrite $self->{socket}, $bytes;
        die "redis: write: $!\n" if !defined $sent;
        substr($bytes, 0, $sent) = '';
    }
}

sub read_reply ($self) {
    my $line = $self->_line;
    my ($kind, $rest) = (substr($line, 0, 1), substr($line, 1));
    return ($rest, undef) if $kind eq '+' || $kind eq ':';
    return (undef, $rest) if $kind eq '-';
    if ($kind eq '$') {
        return (undef, undef) if $rest < 0;
        my $bytes = $self->_take($rest + 2);
        return (substr($bytes, 0, $rest), undef);
    }
    die "redis: not RESP: $line\n" if $kind ne '*';
    return (undef, undef) if $rest < 0;
    my @items;
    for (1 .. $rest) {
        my ($item, $error) = $self->read_reply;
        push @items, defined $error ? \$error : $item;
    }
    return (\@items, undef);
}

# A stream's entries as [id, {field => value}] pairs, in order.
sub entries ($self, $stream, $from = '-', $to = '+') {
    my $reply = $self->command('XRANGE', $stream, $from, $to);
    return map { [$_->[0], { $_->[1]->@* }] } @$reply;
}

sub _line ($self) {
    my $end;
    $self->_fill while ($end = index $self->{buffer}, "\r\n") < 0;
    my $line = substr $self->{buffer}, 0, $end + 2, '';
    return substr $line, 0, -2;
}

sub _take ($self, $bytes) {
    $self->_fill while length $self->{buffer} < $bytes;
    return substr $self->{buffer}, 0, $bytes, '';
}

sub _fill ($self) {
    IO::Select->new($self->{socket})->can_read($self->{timeout}) or die "redis: no reply within $self->{timeout} s\n";
    my $got = sysread $self->{socket}, $self->{buffer}, 262_144, length $self->{buffer};
    die 'redis: ' . (defined $got ? "connection closed\n" : "$!\n") if !$got;
}

1;
