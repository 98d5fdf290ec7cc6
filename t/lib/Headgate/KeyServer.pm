# A server of key sets that answers what a test tells it, and writes down every request as it came.
#
#   my $keys = Headgate::KeyServer->start($t);
#   $keys->answer(body => $jwks);             # status, headers, body; raw: these bytes and nothing else
#   $keys->answer(body => $jwks, after => 'go');  # held back until release('go')
#   is $keys->count, 1;  like $keys->last, qr/^GET /;
#
# One process for each connection, one request for each; state is in files, written whole and renamed.
package Headgate::KeyServer;
use v5.36;

use IO::Socket::INET;
use JSON::PP ();
use POSIX ();
use Time::HiRes qw(sleep);

use Headgate::Process;

sub start ($class, $t) {
    my $self = bless { t => $t, dir => $t->dir('key-server'), port => $t->port }, $class;
    $self->answer(status => 500, body => '');
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $self->{port}, Listen => 128, ReuseAddr => 1)
        or die "key server: $!";
    my $pid = fork() // die "fork: $!";
    if ($pid == 0) {
        POSIX::setpgid(0, 0);
        $SIG{TERM} = 'DEFAULT';
        $SIG{CHLD} = 'IGNORE';
        eval { $self->serve($listener) };
        POSIX::_exit(1);
    }
    close $listener;
    push $t->{processes}->@*, bless { name => 'key server', pid => $pid, log => '/dev/null', stop_signal => 'TERM', stop_seconds => 5 }, 'Headgate::Process';
    return $self;
}

sub port ($self) { $self->{port} }

sub answer ($self, %answer) {
    $answer{number} = ++$self->{answers};
    $self->{t}->write_file("$self->{dir}/answer.new", JSON::PP->new->canonical->latin1->encode(\%answer));
    rename "$self->{dir}/answer.new", "$self->{dir}/answer" or die $!;
}
sub release ($self, $name) { $self->{t}->write_file("$self->{dir}/$name", '') }

# The requests so far, in the order in which they arrived.
sub requests ($self) {
    open my $file, '<:raw', "$self->{dir}/requests" or return ();
    local $/;
    return split /^----\n/m, <$file> // '';
}
sub count ($self) { scalar(my @all = $self->requests) }
sub last ($self)  { ($self->requests)[-1] }

sub serve ($self, $listener) {
    while (1) {
        my $client = $listener->accept or next;
        my $pid    = fork() // die "fork: $!";
        if ($pid == 0) {
            close $listener;
            eval { $self->serve_one($client) };
            POSIX::_exit(0);
        }
        close $client;
    }
}

sub serve_one ($self, $client) {
    my $request = '';
    while ($request !~ /\r\n\r\n/) { sysread $client, $request, 65536, length $request or return }
    # One write: lines of two connections do not mix.
    open my $file, '>>:raw', "$self->{dir}/requests" or die $!;
    syswrite $file, "$request----\n";
    close $file;
    open my $in, '<:raw', "$self->{dir}/answer" or die $!;
    my $answer = JSON::PP->new->latin1->decode(do { local $/; <$in> });
    my $body   = $answer->{body} // '';
    my $bytes  = $answer->{raw};
    if (!defined $bytes) {
        my @headers = ('Content-Type: application/json', 'Connection: close', ($answer->{headers} // [])->@*);
        push @headers, 'Content-Length: ' . length $body if !grep { /^(?:Transfer-Encoding|Content-Length)/i } @headers;
        $bytes = 'HTTP/1.1 ' . ($answer->{status} // 200) . " Whatever\r\n" . join('', map { "$_\r\n" } @headers) . "\r\n$body";
    }
    if (my $name = $answer->{after}) {
        my $patience = 3000;
        sleep 0.01 while $patience-- && !-e "$self->{dir}/$name";
    }
    while (length $bytes) {
        my $sent = syswrite $client, $bytes or return;
        substr $bytes, 0, $sent, '';
    }
}

1;
