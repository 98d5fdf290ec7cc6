# An endpoint that answers 200 at once, or what and when answer() says for a path, and keeps a line of each request in a
# file: time, path, webhook-id, and how many of this path are being answered, itself included.
package Headgate::Receiver;
use v5.36;

use IO::Select;
use IO::Socket::INET;
use Time::HiRes qw(time);

sub start ($class, $t) {
    my $self = bless { port => $t->port, file => $t->path('received.txt') }, $class;
    my $lib  = $t->root . '/t/lib';
    my $process = $t->start(
        name => 'receiver', command => [$^X, "-I$lib", '-MHeadgate::Receiver', '-e', 'Headgate::Receiver::serve(@ARGV)', $self->{port}, $self->{file}],
    );
    $t->wait_for_port($self->{port}, $process);
    return $self;
}

sub port ($self) { $self->{port} }
sub url ($self, $path) { "http://127.0.0.1:$self->{port}/$path" }

# From here on requests of this path are answered with this status, after so many ms; 0: not at all, the connection stays
# open.
sub answer ($self, $path, $status, $after_ms = 0) {
    $self->{answers}{$path} = "$status $after_ms";
    open my $file, '>', "$self->{file}.next" or die "$self->{file}.next: $!";
    print $file map { "$_ $self->{answers}{$_}\n" } keys $self->{answers}->%*;
    close $file;
    rename "$self->{file}.next", "$self->{file}.answers" or die "rename: $!";
}

# All so far: "<path> <webhook-id>" => list of times. What was added since the last call is read.
sub received ($self) {
    open my $file, '<', $self->{file} or return $self->{received} // {};
    seek $file, $self->{at} // 0, 0;
    while (my $line = <$file>) {
        last if $line !~ /\A(\S+) ((\S+) (\S+)) (\d+)\n\z/;
        push $self->{received}{$2}->@*, $1;
        push $self->{order}{$3}->@*, [$4, $1];
        $self->{most}{$3} = $5 if $5 > ($self->{most}{$3} // 0);
        $self->{at} = tell $file;
    }
    return $self->{received} // {};
}

# Of a path: [webhook-id, time] in the order of arrival, and the most requests at a time; as of the last received().
sub order ($self, $path) { ($self->{order}{$path} // [])->@* }
sub most_at_a_time ($self, $path) { $self->{most}{$path} // 0 }

# What answer() said last; the file is replaced as a whole.
sub answer_of ($path, $target) {
    open my $file, '<', $path or return (200, 0);
    while (my $line = <$file>) { return ($1, $2) if $line =~ /\A\Q$target\E (\d+) (\d+)\n/ }
    return (200, 0);
}

sub serve ($port, $path) {
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 128, ReuseAddr => 1) or die "port $port: $!\n";
    open my $out, '>>', $path or die "$path: $!\n";
    $out->autoflush(1);
    my $select = IO::Select->new($listener);
    my (%read, %busy, @later);    # how many of a path; [when, socket, path, bytes], the first first
    my $reply = sub ($socket, $target, $bytes) {
        $busy{$target}--;
        syswrite $socket, $bytes;
    };
    while (1) {
        my @ready = $select->can_read(@later ? ($later[0][0] > time ? $later[0][0] - time : 0) : undef);
        while (@later && $later[0][0] <= time) {
            my (undef, @answer) = (shift @later)->@*;
            $reply->(@answer);
        }
        for my $socket (@ready) {
            if ($socket == $listener) {
                $select->add($listener->accept // next);
                next;
            }
            if (!sysread $socket, $read{$socket}, 65_536, length($read{$socket} // '')) {
                delete $read{$socket};
                $select->remove($socket);
                $busy{ $_->[2] }-- for grep { $_->[1] == $socket } @later;
                @later = grep { $_->[1] != $socket } @later;
                close $socket;
                next;
            }
            while ($read{$socket} =~ /\A(.*?\r\n\r\n)/s) {
                my $head = $1;
                my $body = $head =~ /\r\nContent-Length: (\d+)/i ? $1 : 0;
                last if length $read{$socket} < length($head) + $body;
                substr $read{$socket}, 0, length($head) + $body, '';
                my ($target) = $head =~ m{\A\S+ /(\S*)};
                my ($id)     = $head =~ /\r\nwebhook-id: (\S+)/i;
                print $out time, " $target ", $id // '-', ' ', ++$busy{$target}, "\n";
                my ($status, $after_ms) = answer_of("$path.answers", $target);
                my $answer = "status $status";
                my $bytes  = "HTTP/1.1 $status Answer\r\nContent-Length: @{[ length $answer ]}\r\n\r\n$answer";
                if    (!$status)   { $busy{$target}-- }
                elsif (!$after_ms) { $reply->($socket, $target, $bytes) }
                else               { @later = sort { $a->[0] <=> $b->[0] } @later, [time + $after_ms / 1000, $socket, $target, $bytes] }
            }
        }
    }
}

1;
