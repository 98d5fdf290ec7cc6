# A store that fails while events are published: what must hold while it is away, after it, and at the end, by event id.
package Headgate::Faults;
use v5.36;

use Test::More import => [qw(cmp_ok diag is is_deeply like pass)];

use Headgate::Http;
use Headgate::Receiver;
use Headgate::Reconcile;

# Publishes through an nginx of its own until settle(); the sidecar serves. Option: second, with a second endpoint, which
# gives this answer: [status, after how many ms], until answer() says otherwise; webhooks, how many it has (1).
sub start ($class, $t, $sidecar, %args) {
    my $self  = bless { t => $t, sidecar => $sidecar, log_at => 0 }, $class;
    my $front = $sidecar->front;
    $self->{road} = Headgate::Reconcile->new($t, $sidecar);
    if ($args{second}) {
        $self->{second} = Headgate::Receiver->start($t);
        $self->answer($args{second}->@*);
        my $url = $self->{second}->url('second');
        my @create = ('webhook', 'create', '--org', $sidecar->org, '--url', $url, '--events', 'github.*');
        $self->{second_ids} = [map { $sidecar->run_json(@create)->{id} } 1 .. $args{webhooks} // 1];
    }
    $self->{publisher} = $self->{road}->start_publisher(
        url => 'http://127.0.0.1:' . $front->port . '/events', until => $t->path('enough'), concurrency => 3, pause_ms => 10, bytes_max => 1500,
    );
    $self->progress('at first');
    return $self;
}

sub road ($self) { $self->{road} }

# [status, the reasons as one text]
sub health ($self) {
    my $answer = Headgate::Http->connect(port => $self->{sidecar}->port)->request('GET', '/health');
    return [$answer->status, join ' ', ($answer->json->{reasons} // [])->@*];
}
sub stored ($self) { $self->{sidecar}->sql_value('SELECT count(*) FROM events') }
sub resident_kib ($self) {
    my ($kib) = $self->{t}->read_file('/proc/' . $self->{sidecar}->process->pid . '/status') =~ /^VmRSS:\s+(\d+)/m;
    return $kib;
}

# What the sidecar has logged since mark_log().
sub mark_log ($self)  { $self->{log_at} = length $self->{sidecar}->process->log_text; return }
sub log_since ($self) { substr $self->{sidecar}->process->log_text, $self->{log_at} }

# Requests that either endpoint has had.
sub requests ($self) { $self->{road}->received_count + $self->second_requests }
sub second_requests ($self) {
    my $second = $self->{second} // return 0;
    $second->received;
    return scalar(() = $second->order('second'));
}
sub disable_second ($self) { $self->{sidecar}->run_json('webhook', 'update', $_, '--disable') for $self->{second_ids}->@*; return }
sub answer ($self, $status, $after_ms = 0) { $self->{second}->answer('second', $status, $after_ms) }

# Until more has been answered 201, and more has arrived.
sub progress ($self, $what) {
    my $road = $self->{road};
    my ($accepted, $received) = ($road->accepted_count, $road->received_count);
    $self->{t}->wait_for("progress $what", sub { $road->accepted_count >= $accepted + 50 && $road->received_count >= $received + 30 }, 30);
}
# Until so many more have been answered 201.
sub accepted ($self, $count, $what) {
    my ($road, $before) = ($self->{road}, $self->{road}->accepted_count);
    $self->{t}->wait_for($what, sub { $road->accepted_count >= $before + $count }, 30);
}

# While the store is away: publishing goes on, Redis keeps, memory does not grow. Options: error, what the log says since
# mark_log(), and then nothing is stored; health, the reason that /health gives with its 503; requests_max, how many more
# are sent that cannot be recorded (with error); meanwhile, called when these are counted from.
sub is_held_back ($self, $name, %args) {
    my $t = $self->{t};
    $t->wait_for("$name: the store to refuse", sub { $self->log_since =~ /$args{error}/ }, 30) if $args{error};
    my $stored = $args{error} ? $self->stored : undef;
    my $requests = $self->requests;
    $args{meanwhile}->() if $args{meanwhile};
    $self->is_unhealthy($name, $args{health}) if $args{health} && !$args{error};
    my $rss = $self->resident_kib;
    $self->accepted(100, "$name: events published meanwhile");
    is $self->stored, $stored, "$name: nothing is stored meanwhile" if defined $stored;
    cmp_ok $self->{sidecar}->redis->event_count, '>=', 100, "$name: what was answered 201 waits in Redis";
    cmp_ok $self->resident_kib - $rss, '<', 16 * 1024, "$name: memory does not grow";
    $self->is_unhealthy($name, $args{health}) if $args{health} && $args{error};
    cmp_ok $self->requests - $requests, '<=', $args{requests_max}, "$name: endpoints are not flooded" if $args{requests_max};
}
sub is_unhealthy ($self, $name, $reason) {
    $self->{t}->wait_for("$name: /health to tell of it", sub { $self->health->[0] == 503 }, 20);
    like $self->health->[1], $reason, "$name: /health says why";
}

# What is tried again and again is told once, or twice where the second failure is another one.
sub is_told_once ($self, $name, @events) {
    for my $event (@events) {
        $self->{t}->wait_for("$name: $event in the log", sub { $self->log_since =~ /event=\Q$event\E / });
    }
    my $log = $self->log_since;
    for my $event (@events) {
        my $lines = () = $log =~ /event=\Q$event\E /g;
        cmp_ok $lines, '<=', 2, "$name: the log has $event, and not again for each try";
    }
}

sub is_sent_once ($self, $name) {
    my %times;
    $times{ $_->{id} }++ for $self->{road}->lines($self->{road}{received});
    is scalar(grep { $_ > 1 } values %times), 0, "$name: nothing was sent twice, whatever failed";
}

sub goes_on ($self, $name) {
    my $accepted = $self->{road}->accepted_count;
    $self->{t}->wait_for("$name: all that waited to be stored", sub { $self->stored >= $accepted }, 30);
    $self->progress("after $name");
    pass "$name: all goes on by itself";
}

# Ends the publishing and accounts for it. Returns the account.
sub settle ($self) {
    my ($t, $sidecar, $road) = @$self{qw(t sidecar road)};
    $t->write_file('enough', '');
    my $summary = $road->finish_publisher($self->{publisher});
    $road->wait_until_delivered(60);
    my $account = $road->account;
    is_deeply [grep { !/\A(?:201|503)\z/ } keys $summary->{statuses}->%*], [], 'the edge answered 201 or 503, nothing else';
    is $account->{persisted_once}, $summary->{accepted}, 'every 201 is in the store exactly once, byte for byte';
    is_deeply $account->{wrong}, [], 'none is missing, doubled or altered';
    is $account->{delivered}, $summary->{accepted}, 'every 201 was delivered';
    $self->settle_second if $self->{second};
    is $sidecar->sql_value('SELECT count(*) FROM quarantine'), 0, 'no event was blamed';
    $t->wait_for('the streams to be empty', sub { $sidecar->redis->event_count == 0 });
    diag $road->report($account);
    return $account;
}

# Each request is an attempt in the log, and each attempt a request, but for those that were put back unsent.
sub settle_second ($self) {
    my $attempts;
    my $ids   = join ', ', map { "'$_'" } $self->{second_ids}->@*;
    my $query = "SELECT count(*) FROM attempts a JOIN deliveries d ON d.id = a.delivery_id WHERE d.webhook_id IN ($ids) AND a.outcome <> 'interrupted'";
    $self->{t}->wait_for('each attempt at the second endpoint to be recorded', sub {
        $attempts = $self->{sidecar}->sql_value($query);
        return $attempts == $self->second_requests;
    });
    pass "each of $attempts attempts at the second endpoint is in the log once";
}

1;
