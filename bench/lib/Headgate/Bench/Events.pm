# The events that are published: orders as a shop would send them, all different, all of one size.
package Headgate::Bench::Events;
use v5.36;

use Exporter qw(import);

our @EXPORT_OK = qw(write_events);

my @WORDS = qw(amber basin cedar delta ember fjord grove heron inlet joist kiosk larch mason nylon otter
    plume quill ridge slate thorn umber vivid wharf xenon yacht zebra);

sub words ($count) { join ' ', map { $WORDS[rand @WORDS] } 1 .. $count }

# `count` events whose whole body has `bytes` bytes; the same ones in every run. Writes one file with a
# body (what is POSTed) and one with a payload (what ends up in Redis) per line, in the same order.
# Returns their paths.
sub write_events ($t, %args) {
    my $type  = $args{type}  // 'order.placed';
    my $count = $args{count} // 32;
    my $bytes = $args{bytes} // 1024;
    my $name  = $args{name}  // 'bench';
    srand 20260101;
    my (@bodies, @payloads);
    for my $number (1 .. $count) {
        my $items = join ',', map {
            sprintf '{"sku":"SKU-%05d","name":"%s","quantity":%d,"price":%d.%02d,"gift":%s}', rand 1e5, words(2), 1 + rand 5,
                1 + rand 400, rand 100, (qw(true false))[rand 2]
        } 1 .. 4;
        my $payload = sprintf '{"order_id":"ord_%08d","status":"paid","currency":"EUR","customer":{"id":%d,"name":"%s",'
            . '"email":"%s@example.com"},"items":[%s],"note":"', $number, 1e6 + rand 1e6, words(2), words(1), $items;
        my $frame = length(body($type, $payload . '"}'));
        die "an event of $bytes bytes is too small\n" if $frame >= $bytes;
        $payload .= substr(words($bytes), 0, $bytes - $frame) . '"}';
        push @payloads, $payload;
        push @bodies, body($type, $payload);
    }
    my $bodies_file   = $t->write_file("$name.events.jsonl",   join '', map { "$_\n" } @bodies);
    my $payloads_file = $t->write_file("$name.payloads.jsonl", join '', map { "$_\n" } @payloads);
    return ($bodies_file, $payloads_file);
}

sub body ($type, $payload) { qq({"type":"$type","source":"bench","payload":$payload}) }

1;
