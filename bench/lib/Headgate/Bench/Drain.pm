# The drain rows' ground: streams filled beforehand, a store with one webhook that matches, `headgate
# serve` started on both, and the clock between its first read from Redis and the moment at which the
# store says that the last delivery has succeeded.
package Headgate::Bench::Drain;
use v5.36;

use Time::HiRes qw(sleep time);

use Headgate::Bench::Measure qw(cpu_ns memory_peak_mib);
use Headgate::Http;

# Of the same length, so that a body recorded with one can be sent as the other.
my ($TYPE, $SAMPLE_TYPE) = ('order.placed', 'order.sample');
my $SHARDS       = 8;
our $SECONDS_MAX = 600;

# The receiver for both sides: nginx with one worker that reads each body and answers 204. /record does
# the same and writes each body into a file, one a line.
sub start_receiver ($t, %args) {
    my $bodies = $t->path('sent-bodies.jsonl');
    my $nginx  = $t->nginx(
        name => 'receiver', module => 0, http2 => 0, main => 'load_module ' . $t->peer_module('read_and_answer') . ';',
        http => <<~'CONF' =~ s/BUFFER/$args{body_buffer} \/\/ '64k'/er,
            access_log off;
            log_format body escape=none $request_body;
            keepalive_requests 1000000000;
            client_body_buffer_size BUFFER;
            client_max_body_size 8m;
            CONF
        server => <<~"CONF",
            location = /hook { read_and_answer 204; }
            location = /record { access_log $bodies body; read_and_answer 204; }
            location = /count { stub_status; }
            CONF
    );
    return { nginx => $nginx, bodies_file => $bodies };
}

# redis, payloads_file; receiver, or none where nothing is delivered; change, SQL for the store. Makes the sidecar's files
# and its store with two webhooks: the one that is measured, and, with a receiver, one for events of another type
# whose bodies are recorded for the peer.
sub prepare ($class, $t, %args) {
    my $self = bless { t => $t, %args }, $class;
    $self->{sidecar} = $t->sidecar(redis => $args{redis});
    $self->{hook}    = 'http://127.0.0.1:' . ($args{receiver} ? $args{receiver}{nginx}->port : $t->port) . '/hook';
    $self->add_webhook($self->{hook}, $TYPE);
    $self->add_webhook($self->{hook} =~ s{/hook$}{/record}r, $SAMPLE_TYPE) if $args{receiver};
    $self->{database} = $self->{sidecar}{database};
    $self->change($args{change}) if $args{change};
    for my $file (glob "$self->{database}*") {
        $t->output_of('cp', $file, $t->dir('pristine'));
    }
    return $self;
}

sub hook ($self) { $self->{hook} }
sub database ($self) { $self->{database} }
sub type ($class_or_self) { $TYPE }

sub add_webhook ($self, $url, $events) {
    my $sidecar = $self->{sidecar};
    my $made = $sidecar->run_json('webhook', 'create', '--org', $sidecar->org, '--url', $url, '--events', $events);
    $self->{webhook}{$events} = $made->{id};
    $self->{secret}{$events}  = $made->{secret};
}

# Changes the store that every run begins with.
sub change ($self, $sql) {
    my $t = $self->{t};
    $t->output_of('sqlite3', $self->{database}, $sql);
    for my $file (glob "$self->{database}*") {
        $t->output_of('cp', $file, $t->dir('pristine'));
    }
}

# The secret of the webhook that is measured, as base64, for a peer that signs.
sub secret ($self) { $self->{secret}{$TYPE} =~ s/^whsec_//r }
sub streams ($self) { $self->{redis}->streams }
sub redis ($self) { $self->{redis} }

# The bodies as the sidecar sends them, one a line in a file: delivers `count` events to /record.
sub record_bodies ($self, $count) {
    my $t     = $self->{t};
    my $file  = $self->{receiver}{bodies_file};
    my $lines = 0;
    $self->fill($SAMPLE_TYPE, $count);
    my $process = $self->start_serve;
    $t->wait_for('the recorded bodies', sub { $lines = () = $t->read_file($file) =~ /\n/g; $lines >= $count }, 60);
    $self->stop_serve($process);
    my $bodies = $t->read_file($file) =~ s/"\Q$SAMPLE_TYPE\E"/"$TYPE"/gr;
    return $t->write_file('bodies.jsonl', $bodies);
}

# The store as prepare() left it.
sub reset_store ($self) {
    my $t = $self->{t};
    unlink glob "$self->{database}*";
    for my $file (glob $t->dir('pristine') . '/*') {
        $t->output_of('cp', $file, $t->dir('headgate'));
    }
}

# That store, and nothing in Redis but `events` entries.
sub fill ($self, $type, $events, %args) {
    my ($t, $redis) = $self->@{qw(t redis)};
    $self->reset_store;
    $redis->empty;
    my @what = ($self->{sidecar}->org, $type, $events, $SHARDS, $args{payloads_file} // $self->{payloads_file});
    $t->output_of($t->program('load_events'), $redis->port, @what);
    $redis->settle;
    $redis->command('CONFIG', 'RESETSTAT');
}

sub start_serve ($self) {
    my $sidecar = $self->{sidecar};
    return $self->{t}->start(
        name => 'serve', command => [$sidecar->executable, 'serve', '--config', $sidecar->config],
        env  => { HEADGATE_LOG_LEVEL => 'warn' }, stop_seconds => 15,
    );
}

sub stop_serve ($self, $process) {
    if (my $complaint = $process->stop) { $self->{t}->die_with_logs($complaint) }
    $self->{t}->die_with_logs('serve: ' . $process->describe_exit) if $process->status != 0;
    $self->{t}->forget($process);
}

# One drain of `events` events with their delivery (payloads_file: other events; seconds_max: more patience). Begins at the first XREADGROUP that Redis has
# answered, ends when the store shows all deliveries as succeeded (the receiver's count is watched
# before that, because asking it costs the sidecar nothing).
sub run ($self, $events, %args) {
    my ($t, $redis) = $self->@{qw(t redis)};
    $self->fill($TYPE, $events, %args);
    local $SECONDS_MAX = $args{seconds_max} // $SECONDS_MAX;
    my $received_before = $self->received;
    my $redis_before    = $redis->cpu_ns_total;
    my $executed        = time;
    my $process         = $self->start_serve;
    my $begun           = $self->await($process, 'the first read', 0.0005, sub { $redis->calls('xreadgroup') });
    my $cpu_at_begin    = cpu_ns($process->pid);
    $self->await($process, "$events requests at the receiver", 0.02, sub { $self->received - $received_before >= $events });
    my $ended = $self->await($process, "$events deliveries recorded", 0.005, sub { $self->succeeded == $events });
    my @cpu   = (cpu_ns($process->pid), $redis->cpu_ns_total - $redis_before);
    my $peak  = memory_peak_mib($process->pid);
    my $rows  = $self->{sidecar}->sql_value(
        "SELECT count(*) FROM deliveries d JOIN events e ON e.id = d.event_id WHERE d.status = 'success'");
    $self->stop_serve($process);
    $t->die_with_logs("the counter says $events deliveries, the rows say $rows") if $rows != $events;
    $t->die_with_logs('the streams are not empty') if $redis->event_count;
    return {
        rate       => $events / ($ended - $begun),
        start_rate => $events / ($ended - $executed),
        start_ms   => ($begun - $executed) * 1000,
        cpu_us     => $cpu[0] / 1000 / $events,
        drain_us   => ($cpu[0] - $cpu_at_begin) / 1000 / $events,
        redis_us   => $cpu[1] / 1000 / $events,
        peak_mib   => $peak,
    };
}

# One drain of `events` events into the store, without delivery; the store must hold `deliveries` of them afterwards.
# Begins as run() does and ends when the streams are empty: an entry leaves when it has been persisted. Processor
# time counts from when a tenth is gone, so that what is made once (compiled subscriptions) is left out.
sub persist ($self, $events, $deliveries) {
    my ($t, $redis) = $self->@{qw(t redis)};
    $self->fill($TYPE, $events);
    my $process  = $self->start_serve;
    my $begun    = $self->await($process, 'the first read', 0.0005, sub { $redis->calls('xreadgroup') });
    my $left     = $events;
    $self->await($process, 'a tenth of the events', 0.001, sub { ($left = $redis->event_count) <= $events * 0.9 });
    my @before = (cpu_ns($process->pid), $redis->cpu_ns_total);
    my $ended  = $self->await($process, 'empty streams', 0.005, sub { $redis->event_count == 0 });
    my @cpu    = (cpu_ns($process->pid) - $before[0], $redis->cpu_ns_total - $before[1]);
    my $peak   = memory_peak_mib($process->pid);
    my $rows   = join '/', map { $self->{sidecar}->sql_value("SELECT count(*) FROM $_") } qw(events deliveries);
    $self->stop_serve($process);
    $t->die_with_logs("$rows events/deliveries in the store, not $events/$deliveries") if $rows ne "$events/$deliveries";
    $left ||= $events;    # so few that the tenth was all
    return {
        rate     => $events / ($ended - $begun),
        cpu_us   => $cpu[0] / 1000 / $left,
        redis_us => $cpu[1] / 1000 / $left,
        peak_mib => $peak,
    };
}

# Polls for a condition; returns when it was seen.
sub await ($self, $process, $what, $pause, $condition) {
    my $deadline = time + $SECONDS_MAX;
    until ($condition->()) {
        $self->{t}->die_with_logs('serve ended: ' . $process->describe_exit) if !$process->alive;
        $self->{t}->die_with_logs("gave up after $SECONDS_MAX s waiting for $what") if time > $deadline;
        sleep $pause;
    }
    return time;
}

# Requests that the receiver has answered, but for the ones that ask it.
sub received ($self) {
    my $text = $self->{receiver}{nginx}->get('/count')->body;
    my ($requests) = $text =~ /\n\s*\d+ \d+ (\d+)/ or die "not a stub_status: $text\n";
    return $requests - ++$self->{asked};
}

# Deliveries recorded as succeeded, from the counter that is kept in the same transaction.
sub succeeded ($self) {
    return $self->{sidecar}->sql_value(
        "SELECT total_deliveries - failed_deliveries FROM webhooks WHERE id = '$self->{webhook}{$TYPE}'");
}

1;
