package ulsam.attention

import kotlin.math.abs
import kotlin.math.exp
import kotlin.math.max

/** A class and its share of all, 0 to 1. */
class Answer(val label: String, val share: Float)

/** The classes of the highest scores, the highest first; of logits the softmax is taken. */
fun answers(scores: FloatArray, labels: List<String>, most: Int): List<Answer> {
    require(labels.isEmpty() || labels.size == scores.size) {
        "There must be a label for each score. Received: ${labels.size} labels, ${scores.size} scores"
    }
    val shares = if (areShares(scores)) scores else softmax(scores)
    return shares.indices.sortedByDescending { shares[it] }.take(most).map { index ->
        Answer(labels.getOrNull(index) ?: "class $index", shares[index])
    }
}

/**
 * The largest difference, relative to the largest value.
 *
 * What one accelerator answers is held against another: one that takes a model may still compute
 * it wrongly.
 */
fun difference(found: FloatArray, wanted: FloatArray): Float {
    var largest = 0f
    var apart = 0f
    for (i in wanted.indices) {
        largest = max(largest, abs(wanted[i]))
        val step = abs(found[i] - wanted[i])
        apart = if (step.isNaN()) Float.POSITIVE_INFINITY else max(apart, step)
    }
    return if (apart == 0f) 0f else apart / largest
}

private fun areShares(scores: FloatArray) =
    scores.all { it in 0f..1f } && abs(scores.sum() - 1) < 1e-2f

private fun softmax(scores: FloatArray): FloatArray {
    val largest = scores.fold(Float.NEGATIVE_INFINITY) { most, score -> max(most, score) }
    val powers = FloatArray(scores.size) { exp(scores[it] - largest) }
    val sum = powers.sum()
    return FloatArray(scores.size) { powers[it] / sum }
}
