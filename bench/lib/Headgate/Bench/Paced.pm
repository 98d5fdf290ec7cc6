# New events at a steady pace beside much that is due: how long each takes from its creation to its 2xx. For the rows in
# which something else must not hold them back.
package Headgate::Bench::Paced;
use v5.36;

use Time::HiRes qw(sleep time);

use Headgate::Bench::Events qw(write_events);
use Headgate::Bench::Redis;
use Headgate::Http;

my ($NEW, $DUE) = ('order.placed', 'order.overdue');
my $SHARDS = 8;
my ($EACH, $PAUSE) = (10, 0.05);    # 200 events a second

# A receiver with /new and /due that answer at once and /slow that answers after 29 s; one webhook for new events, one for
# those that are due, at the path `due`.
sub start ($class, $t, %args) {
    my $redis    = Headgate::Bench::Redis->start($t);
    my $receiver = $t->nginx(
        name => 'receiver', module => 0, http2 => 0, main => 'load_module ' . $t->peer_module('read_and_answer') . ';',
        http => "access_log off;\nkeepalive_requests 1000000000;\nclient_body_buffer_size 64k;",
        server => "location / { read_and_answer 204; }",
    );
    my $slow = $t->port;
    my $process = $t->start(name => 'slow receiver', command => [$^X, '-e', <<~'PERL', $slow]);
        use v5.36; use IO::Select; use IO::Socket::INET; use Time::HiRes qw(time);
        my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $ARGV[0], Listen => 1024, ReuseAddr => 1) or die;
        my $select = IO::Select->new($listener);
        my (%due, %socket);
        while (1) {
            for my $socket ($select->can_read(0.2)) {
                if ($socket == $listener) { $select->add(scalar $listener->accept); next }
                if (!sysread $socket, my $bytes, 65536) { $select->remove($socket); delete $due{$socket}; close $socket; next }
                $due{$socket} //= time + 29;
                $socket{$socket} = $socket;
            }
            for my $key (grep { $due{$_} < time } keys %due) {
                delete $due{$key};
                syswrite $socket{$key}, "HTTP/1.1 204 No Content\r\n\r\n";
            }
        }
        PERL
    $t->wait_for_port($slow, $process);
    my $self    = bless { t => $t, redis => $redis, sidecar => $t->sidecar(redis => $redis) }, $class;
    my $fast    = 'http://127.0.0.1:' . $receiver->port;
    my $sidecar = $self->{sidecar};
    my %url     = ($NEW => "$fast/new", $DUE => $args{due} eq 'slow' ? "http://127.0.0.1:$slow/" : "$fast/due");
    for my $type ($NEW, $DUE) {
        my @create = ('webhook', 'create', '--org', $sidecar->org, '--url', $url{$type}, '--events', $type);
        $self->{webhook}{$type} = $sidecar->run_json(@create)->{id};
    }
    (undef, $self->{payloads_file}) = write_events($t);
    return $self;
}

sub serve ($self) {
    my $sidecar = $self->{sidecar};
    $self->{process} = $self->{t}->start(
        name => 'serve', command => [$sidecar->executable, 'serve', '--config', $sidecar->config],
        env => { HEADGATE_LOG_LEVEL => 'warn' }, stop_seconds => 15,
    );
    $self->{t}->wait_for_port($sidecar->port, $self->{process});
    return;
}

sub stop ($self) {
    if (my $complaint = $self->{process}->stop) { $self->{t}->die_with_logs($complaint) }
    $self->{t}->forget($self->{process});
    return;
}

sub load ($self, $type, $count) {
    my $t = $self->{t};
    $t->output_of($t->program('load_events'), $self->{redis}->port, $self->{sidecar}->org, $type, $count, $SHARDS, $self->{payloads_file});
    return;
}

sub count ($self, $where) { $self->{sidecar}->sql_value("SELECT count(*) FROM deliveries d WHERE $where") }

# Until `count` deliveries that are due have their rows.
sub load_due ($self, $count) {
    $self->load($DUE, $count);
    $self->{t}->wait_for("$count deliveries that are due", sub { $self->count("webhook_id = '$self->{webhook}{$DUE}'") >= $count }, 300);
    return;
}

# As after two days of downtime: each has failed once. Only while nothing serves.
sub make_overdue ($self) {
    my $then = int((time - 2 * 86_400) * 1000);
    my $sql  = "UPDATE deliveries SET state = 'retrying', status = 'failed', attempts = 1, due_at = $then WHERE webhook_id = '$self->{webhook}{$DUE}'";
    $self->{t}->output_of('sqlite3', $self->{sidecar}{database}, $sql);
    return;
}

# ms from the creation of new events to their success, for `seconds`; the 99th percentile and the median.
sub latency ($self, $seconds) {
    my $since = int(time * 1000);
    my $sent  = 0;
    my $end   = time + $seconds;
    while (time < $end) {
        $self->load($NEW, $EACH);
        $sent += $EACH;
        sleep $PAUSE;
    }
    my $hook = "d.webhook_id = '$self->{webhook}{$NEW}' AND d.created_at >= $since";
    $self->{t}->wait_for("$sent new events delivered", sub { $self->count("$hook AND status = 'success'") >= $sent }, 120);
    my @ms = sort { $a <=> $b } map { $_->{ms} } $self->{sidecar}->sql(
        "SELECT a.finished_at - e.created_at AS ms FROM attempts a JOIN deliveries d ON d.id = a.delivery_id"
            . " JOIN events e ON e.id = d.event_id WHERE a.outcome = 'success' AND $hook");
    return { p99_ms => $ms[int(0.99 * $#ms)] || 1, median_ms => $ms[$#ms / 2] };
}

# How many that were due have succeeded, and over what span of time, in seconds.
sub due_done ($self) {
    my ($row) = $self->{sidecar}->sql(
        "SELECT count(*) AS n, (max(a.finished_at) - min(a.finished_at)) / 1000.0 AS s FROM attempts a JOIN deliveries d"
            . " ON d.id = a.delivery_id WHERE a.outcome = 'success' AND d.webhook_id = '$self->{webhook}{$DUE}'");
    return ($row->{n}, $row->{s});
}

1;
