# An HTTP/1.1 client that does exactly what it is told to the bytes: keep-alive, pipelining, chunked
# bodies, any slicing, half a request. Answers are read properly (Content-Length, chunked, close).
package Headgate::Http;
use v5.36;

use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use JSON::PP ();
use Scalar::Util qw(weaken);
use Socket qw(IPPROTO_TCP TCP_NODELAY SOL_SOCKET SO_LINGER);
use Time::HiRes qw(time);

my @open;    # weak references: teardown closes what a test still holds

# port or path; optional timeout (seconds), from (local address).
sub connect ($class, %args) {
    my $socket = $args{path}
        ? IO::Socket::UNIX->new(Peer => $args{path})
        : IO::Socket::INET->new(
            PeerAddr => $args{host} // '127.0.0.1', PeerPort => $args{port}, Timeout => 5,
            $args{from} ? (LocalAddr => $args{from}) : (),
        );
    die "cannot connect to port @{[ $args{port} // $args{path} ]}: $!\n" if !$socket;
    setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1 if !$args{path};
    my $self = bless { socket => $socket, buffer => '', timeout => $args{timeout} // 20 }, $class;
    push @open, $self;
    weaken $open[-1];
    return $self;
}

sub close_all { $_->close for grep { defined } @open; @open = () }

# The bytes of a request. body: bytes; chunked: size of the chunks; headers: array of pairs.
sub format_request ($class, $method, $target, %args) {
    my @headers = ($args{headers} // [])->@*;
    my %given   = map { lc $headers[$_] => 1 } grep { !($_ & 1) } 0 .. $#headers;
    my $head    = "$method $target HTTP/" . ($args{version} // '1.1') . "\r\n";
    $head .= "Host: localhost\r\n" if !$given{host};
    while (my ($name, $value) = splice @headers, 0, 2) { $head .= "$name: $value\r\n" }
    my $body = $args{body};
    return "$head\r\n" if !defined $body;
    utf8::encode($body) if utf8::is_utf8($body);
    return $head . 'Content-Length: ' . length($body) . "\r\n\r\n$body" if !$args{chunked};

    my $chunks = '';
    for (my $at = 0; $at < length $body; $at += $args{chunked}) {
        my $chunk = substr $body, $at, $args{chunked};
        $chunks .= sprintf "%x\r\n%s\r\n", length $chunk, $chunk;
    }
    return $head . "Transfer-Encoding: chunked\r\n\r\n${chunks}0\r\n\r\n";
}

# Sends bytes; slice: that many per write. Returns false when the server has closed.
sub send_bytes ($self, $bytes, %args) {
    my $slice = $args{slice} // length $bytes;
    for (my $at = 0; $at < length $bytes;) {
        my $want = length($bytes) - $at;
        my $sent = syswrite $self->{socket}, $bytes, $want < $slice ? $want : $slice, $at;
        return 0 if !defined $sent;
        $at += $sent;
    }
    return 1;
}

# One request and its answer on this connection.
sub request ($self, $method, $target, %args) {
    $self->send_bytes(ref($self)->format_request($method, $target, %args), slice => $args{slice} // 1 << 30);
    return $self->read_response(method => $method);
}

# The next answer; 1xx ones are skipped. Dies at the timeout or when the connection ends early.
sub read_response ($self, %args) {
    my $head;
    while (1) {
        my $end;
        while (($end = index $self->{buffer}, "\r\n\r\n") < 0) {
            $self->_fill or die "connection closed before an answer\n";
        }
        $head = substr $self->{buffer}, 0, $end + 4, '';
        last if $head !~ m{\AHTTP/1\.[01] 1\d\d };
    }
    my ($status_line, @lines) = split /\r\n/, $head;
    my ($status, $reason) = $status_line =~ m{\AHTTP/1\.[01] (\d{3}) ?(.*)\z} or die "not HTTP: $status_line\n";
    my @headers = map { [/\A([^:]+):[ \t]*(.*?)[ \t]*\z/] } @lines;
    my $response = bless { status => $status, reason => $reason, headers => \@headers, body => '' }, 'Headgate::Http::Response';

    return $response if ($args{method} // '') eq 'HEAD' || $status == 204 || $status == 304;
    if (lc($response->header('Transfer-Encoding') // '') eq 'chunked') {
        while (1) {
            my $size = hex $self->_line;
            $response->{body} .= $self->_take($size);
            $self->_line;
            last if $size == 0;
        }
    }
    elsif (defined(my $length = $response->header('Content-Length'))) {
        $response->{body} = $self->_take($length);
    }
    else {
        1 while $self->_fill;
        ($response->{body}, $self->{buffer}) = ($self->{buffer}, '');
    }
    return $response;
}

# True when the server closes the connection (within the timeout) without sending more.
sub closed_by_server ($self) { eval { !$self->_fill } }

sub close ($self) { close delete $self->{socket} if $self->{socket} }

# Ends with a TCP reset, as a client that dies may.
sub reset ($self) {
    setsockopt $self->{socket}, SOL_SOCKET, SO_LINGER, pack 'll', 1, 0;
    $self->close;
}

sub socket ($self) { $self->{socket} }

sub _line ($self) {
    my $end;
    while (($end = index $self->{buffer}, "\r\n") < 0) { $self->_fill or die "connection closed in an answer\n" }
    return substr substr($self->{buffer}, 0, $end + 2, ''), 0, -2;
}

sub _take ($self, $bytes) {
    while (length $self->{buffer} < $bytes) { $self->_fill or die "connection closed in an answer\n" }
    return substr $self->{buffer}, 0, $bytes, '';
}

sub _fill ($self) {
    IO::Select->new($self->{socket})->can_read($self->{timeout}) or die "no answer within $self->{timeout} s\n";
    my $got = sysread $self->{socket}, $self->{buffer}, 262_144, length $self->{buffer};
    die "connection lost: $!\n" if !defined $got;
    return $got;
}

package Headgate::Http::Response {
    sub status ($self) { $self->{status} }
    sub reason ($self) { $self->{reason} }
    sub body ($self)   { $self->{body} }
    # The value of a header; several of one name are joined as RFC 9110 allows. undef without one.
    sub header ($self, $name) {
        my @values = map { $_->[1] } grep { lc $_->[0] eq lc $name } $self->{headers}->@*;
        return @values ? join(', ', @values) : undef;
    }
    # The body as JSON: dies when it is not.
    sub json ($self) { JSON::PP->new->utf8->decode($self->{body}) }
}

1;
