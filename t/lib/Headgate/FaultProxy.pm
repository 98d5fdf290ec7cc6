# A TCP proxy that misbehaves on command, between nginx (or the sidecar) and Redis. It runs as a
# process of its own and obeys one-line commands over a socket pair:
#
#   pass                 forward everything (as at the start)
#   refuse               stop listening and reset what is open: connections are refused
#   stall_requests       read nothing from clients, so that their socket buffers fill
#   stall_replies        forward requests, hold replies back
#   cut_replies N        forward N more bytes of replies in all, then reset that connection
#   cut_requests N       the same for requests
#   slice N              forward at most N bytes per write, in both directions
#   delay MS             hold every piece back for so long
#   answer WORD HEX      the next command that holds WORD does not reach the server: HEX is its answer, in its turn
#   drop                 reset all open connections once; stay as it is otherwise
#   stats                connections=… open=… requests=… replies=… (bytes)
#
# Every command answers when it is in force. `pass` also lets go what was stalled.
package Headgate::FaultProxy;
use v5.36;

use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX ();
use Socket qw(AF_UNIX SOCK_STREAM PF_UNSPEC);

use Headgate::Process;

# to_port: where it forwards to.
sub start ($class, $t, %args) {
    my $self = bless { port => $args{port} // $t->port, to_port => $args{to_port} }, $class;
    socketpair my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC or die "socketpair: $!";
    my $pid = fork() // die "fork: $!";
    if ($pid == 0) {
        close $ours;
        $SIG{INT} = 'IGNORE';
        $SIG{TERM} = 'DEFAULT';
        my $ok = eval { Headgate::FaultProxy::Loop->new($self->{port}, $self->{to_port}, $theirs)->run; 1 };
        print STDERR "fault proxy: $@" if !$ok;
        POSIX::_exit($ok ? 0 : 1);
    }
    close $theirs;
    $self->{control} = $ours;
    my $process = bless {
        name => 'fault proxy', pid => $pid, log => '/dev/null', stop_signal => 'TERM', stop_seconds => 5,
    }, 'Headgate::Process';
    push $t->{processes}->@*, $process;
    $self->command('stats');
    return $self;
}

sub port ($self) { $self->{port} }

sub command ($self, $command) {
    syswrite $self->{control}, "$command\n" or die "fault proxy is gone";
    my $answer = '';
    while ($answer !~ /\n/) {
        IO::Select->new($self->{control})->can_read(10) or die 'fault proxy does not answer';
        sysread $self->{control}, $answer, 4096, length $answer or die 'fault proxy has ended';
    }
    die "fault proxy: $answer" if $answer =~ /^error/;
    return $answer =~ s/\n//r;
}

sub stats ($self) { return { map { split /=/ } split ' ', $self->command('stats') } }

# The process behind it: one select loop over links, each with two pipes.
package Headgate::FaultProxy::Loop {
    use Scalar::Util qw(refaddr);
    use Socket qw(SOL_SOCKET SO_LINGER SO_RCVBUF IPPROTO_TCP TCP_NODELAY);
    use Time::HiRes qw(time);

    my $BUFFER_BYTES_MAX = 262_144;

    sub new ($class, $port, $to_port, $control) {
        my $self = bless {
            port => $port, to_port => $to_port, control => $control, commands => '', links => {},
            connections => 0, requests => 0, replies => 0, mode => {},
        }, $class;
        $self->listen;
        return $self;
    }

    sub listen ($self) {
        return if $self->{listener};
        $self->{listener} = IO::Socket::INET->new(
            LocalAddr => '127.0.0.1', LocalPort => $self->{port}, Listen => 128, ReuseAddr => 1,
        ) or die "listen on $self->{port}: $!\n";
        # Small buffers make a stall felt after kilobytes, not megabytes.
        setsockopt $self->{listener}, SOL_SOCKET, SO_RCVBUF, 8192;
        $self->{listener}->blocking(0);
    }

    sub run ($self) {
        while (1) {
            my $now = time;
            my ($read, $write, $wake) = $self->interests($now);
            my ($readable, $writable) = IO::Select->select($read, $write, undef, $wake);
            for my $socket (($readable // [])->@*) {
                if    ($socket == $self->{control}) { return if !$self->obey }
                elsif ($self->{listener} && $socket == $self->{listener}) { $self->accept }
                else  { $self->receive($socket) }
            }
            $self->forward($_) for grep { $self->{links}{ refaddr $_ } } ($writable // [])->@*;
        }
    }

    # What to wait for: sockets to read, sockets to write, and for how long.
    sub interests ($self, $now) {
        my ($read, $write, $wake) = (IO::Select->new($self->{control}), IO::Select->new, undef);
        $read->add($self->{listener}) if $self->{listener};
        for my $pipe ($self->pipes) {
            $read->add($pipe->{from}) if !$pipe->{eof} && $self->may_read($pipe);
            next if !$self->may_write($pipe);
            next if !$pipe->{pieces}->@* && (!$pipe->{eof} || $pipe->{shut});
            my $in = ($pipe->{pieces}[0] // [0])->[0] - $now;
            if    ($in <= 0) { $write->add($pipe->{to}) }
            elsif (!defined $wake || $in < $wake) { $wake = $in }
        }
        return ($read, $write, $wake);
    }

    sub pipes ($self) {
        my %seen;
        return grep { !$seen{ refaddr $_ }++ } map { $_->{pipes}->@* } values $self->{links}->%*;
    }

    sub may_read ($self, $pipe) {
        return 0 if $pipe->{is_request} && $self->{mode}{stall_requests};
        return $pipe->{held_bytes} < $BUFFER_BYTES_MAX;
    }

    sub may_write ($self, $pipe) { return !($self->{mode}{stall_replies} && !$pipe->{is_request}) }

    sub accept ($self) {
        my $client = $self->{listener}->accept or return;
        $self->{connections}++;
        my $server = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{to_port}, Timeout => 5);
        return abort_socket($client) if !$server;
        $_->blocking(0), setsockopt $_, IPPROTO_TCP, TCP_NODELAY, 1 for $client, $server;
        my @pipes = (
            { from => $client, to => $server, is_request => 1, pieces => [], held_bytes => 0 },
            { from => $server, to => $client, is_request => 0, pieces => [], held_bytes => 0 },
        );
        my $link = { sockets => [$client, $server], pipes => \@pipes };
        $self->{links}{ refaddr $_ } = $link for $client, $server;
    }

    sub receive ($self, $socket) {
        my $link = $self->{links}{ refaddr $socket } or return;
        my ($pipe) = grep { $_->{from} == $socket } $link->{pipes}->@*;
        my $got = sysread $socket, my $bytes, 65_536;
        if (!defined $got) { return $!{EAGAIN} ? () : $self->abort($link) }
        if ($got == 0) { $pipe->{eof} = 1; return }
        if ($pipe->{is_request} && $self->{mode}{answer}) { $self->swap_command(\$bytes) }
        elsif (!$pipe->{is_request} && defined $self->{swapped} && $bytes =~ s/\$14\r\nfault-injected\r\n/$self->{swapped}/) {
            delete $self->{swapped};
        }
        $got = length $bytes;
        push $pipe->{pieces}->@*, [time + ($self->{mode}{delay} // 0) / 1000, $bytes];
        $pipe->{held_bytes} += $got;
    }

    # The server echoes a mark where the answer belongs, which is then put there.
    sub swap_command ($self, $bytes) {
        my ($word, $hex) = $self->{mode}{answer}->@*;
        my $at = 0;
        while (substr($$bytes, $at) =~ /\A\*(\d+)\r\n/) {
            my ($count, $end) = ($1, $at + $+[0]);
            for (1 .. $count) {
                substr($$bytes, $end) =~ /\A\$(\d+)\r\n/ or return;
                $end += $+[0] + $1 + 2;
            }
            return if $end > length $$bytes;
            if (index(substr($$bytes, $at, $end - $at), $word) >= 0) {
                substr($$bytes, $at, $end - $at) = "*2\r\n\$4\r\nECHO\r\n\$14\r\nfault-injected\r\n";
                $self->{swapped} = pack 'H*', $hex;
                delete $self->{mode}{answer};
                return;
            }
            $at = $end;
        }
    }

    sub forward ($self, $socket) {
        my $link = $self->{links}{ refaddr $socket };
        my ($pipe) = grep { $_->{to} == $socket } $link->{pipes}->@*;
        my $piece = $pipe->{pieces}[0];
        if (!$piece) {
            shutdown $socket, 1 if $pipe->{eof} && !$pipe->{shut}++;
            return $self->forget($link) if 2 == grep { $_->{shut} } $link->{pipes}->@*;
            return;
        }
        my $count = length $piece->[1];
        my $slice = $self->{mode}{slice} // 0;
        $count = $slice if $slice && $slice < $count;
        my $cut = $pipe->{is_request} ? 'cut_requests' : 'cut_replies';
        my $left = $self->{mode}{$cut};
        $count = $left if defined $left && $left < $count;

        my $sent = $count ? syswrite $socket, $piece->[1], $count : 0;
        if (!defined $sent) { return $!{EAGAIN} ? () : $self->abort($link) }
        substr($piece->[1], 0, $sent) = '';
        $pipe->{held_bytes} -= $sent;
        $self->{ $pipe->{is_request} ? 'requests' : 'replies' } += $sent;
        shift $pipe->{pieces}->@* if !length $piece->[1];
        return if !defined $left;
        $self->{mode}{$cut} -= $sent;
        return if $self->{mode}{$cut} > 0;
        delete $self->{mode}{$cut};
        $self->abort($link);
    }

    sub forget ($self, $link) {
        delete $self->{links}{ refaddr $_ } for $link->{sockets}->@*;
        close $_ for $link->{sockets}->@*;
    }

    sub abort ($self, $link) {
        delete $self->{links}{ refaddr $_ } for $link->{sockets}->@*;
        abort_socket($_) for $link->{sockets}->@*;
    }

    sub abort_socket ($socket) {
        setsockopt $socket, SOL_SOCKET, SO_LINGER, pack 'll', 1, 0;
        close $socket;
    }

    sub abort_all ($self) {
        my %seen;
        $self->abort($_) for grep { !$seen{ refaddr $_ }++ } values $self->{links}->%*;
    }

    # Reads commands; returns false when the test has gone.
    sub obey ($self) {
        sysread $self->{control}, $self->{commands}, 4096, length $self->{commands} or return 0;
        while ($self->{commands} =~ s/\A(.*)\n//) {
            my ($command, $value, $bytes) = split ' ', $1;
            my $answer = 'ok';
            if    ($command eq 'pass')   { $self->{mode} = {}; $self->listen }
            elsif ($command eq 'refuse') { close delete $self->{listener} if $self->{listener}; $self->abort_all }
            elsif ($command eq 'drop')   { $self->abort_all }
            elsif ($command =~ /\A(?:stall_requests|stall_replies)\z/) { $self->{mode}{$command} = 1 }
            elsif ($command =~ /\A(?:cut_replies|cut_requests|slice|delay)\z/) { $self->{mode}{$command} = $value }
            elsif ($command eq 'answer') { $self->{mode}{answer} = [$value, $bytes] }
            elsif ($command eq 'stats') {
                my $open = keys($self->{links}->%*) / 2;
                $answer = "connections=$self->{connections} open=$open requests=$self->{requests} replies=$self->{replies}";
            }
            else { $answer = "error: unknown command $command" }
            syswrite $self->{control}, "$answer\n";
        }
        return 1;
    }
}

1;
